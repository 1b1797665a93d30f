//! What the ingress answers an authority that wants to see that a name leads here (RFC 8555 §8.3).
//! It refuses to answer for a token that nobody ordered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

/// Where authorities look.
pub(crate) const PATH: &str = "/.well-known/acme-challenge/";

/// The challenges under way. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    answers: Arc<ArcSwap<HashMap<String, String>>>,
    /// Held while the next set is made of the last one.
    edit: Arc<Mutex<()>>,
}

impl Challenges {
    /// None under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to answer at this path, if it is one of a challenge under way.
    pub(crate) fn answer(&self, path: &str) -> Option<String> {
        self.answers.load().get(path.strip_prefix(PATH)?).cloned()
    }

    /// Answers for this token until the value that comes back is dropped.
    pub(super) fn put(&self, token: &str, answer: &str) -> Answered {
        self.change(|answers| drop(answers.insert(token.to_owned(), answer.to_owned())));
        Answered { challenges: self.clone(), token: token.to_owned() }
    }

    fn change(&self, edit: impl FnOnce(&mut HashMap<String, String>)) {
        let _held = self.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = HashMap::clone(&self.answers.load());
        edit(&mut answers);
        self.answers.store(Arc::new(answers));
    }
}

/// A challenge that is answered.
#[derive(Debug)]
pub(super) struct Answered {
    challenges: Challenges,
    token: String,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.challenges.change(|answers| drop(answers.remove(&self.token)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_while_it_is_under_way() {
        let challenges = Challenges::new();
        let answered = challenges.put("token", "token.thumb");
        assert_eq!(challenges.answer("/.well-known/acme-challenge/token").as_deref(), Some("token.thumb"));
        for path in ["/token", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/other"] {
            assert_eq!(challenges.answer(path), None, "{path}");
        }
        drop(answered);
        assert_eq!(challenges.answer("/.well-known/acme-challenge/token"), None);
    }
}
