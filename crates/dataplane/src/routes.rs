//! Which workloads answer for which names. The agent writes; every request reads, without a lock.
//! It refuses to find out whether a backend lives: it holds what it was told last.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use hypercore_model::{WorkloadId, WorkloadName, WorkloadStatus};
use tokio_util::sync::CancellationToken;

/// Fewest characters of an id that count as a short form of it: fewer would be guesses.
const ID_PREFIX_LEN_MIN: usize = 4;
/// Characters of a whole id.
const ID_LEN: usize = 36;

/// Where requests for a workload may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Address and port that the workload listens on, as the connector understands them.
    pub address: SocketAddr,
}

/// Whether a workload can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteState {
    /// Any of these answers for it.
    Live(Vec<Backend>),
    /// It isn't running, or is about to end.
    NotRunning(WorkloadStatus),
    /// It runs, and nothing says which of its ports speaks HTTP.
    NoPort,
}

/// One workload's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The workload; its id is a name of it, and so is each unique prefix.
    pub workload: WorkloadId,
    /// What people call it.
    pub name: Option<WorkloadName>,
    /// Whether it can be reached.
    pub state: RouteState,
}

/// Why a label leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    Unknown,
    Ambiguous,
}

/// A route as requests use it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) route: Route,
    turn: AtomicUsize,
    /// Cancelled when the route has gone or leads elsewhere: whoever still uses it should come to an end.
    pub(crate) retired: CancellationToken,
}

impl Entry {
    fn new(route: Route) -> Arc<Self> {
        Arc::new(Self { route, turn: AtomicUsize::new(0), retired: CancellationToken::new() })
    }

    /// The backends, each request beginning with the next one.
    pub(crate) fn backends<'a>(&self, all: &'a [Backend]) -> impl Iterator<Item = &'a Backend> {
        let first = if all.len() > 1 { self.turn.fetch_add(1, Ordering::Relaxed) % all.len() } else { 0 };
        all.iter().cycle().skip(first).take(all.len())
    }
}

#[derive(Debug, Clone, Default)]
struct Table {
    /// By the id's text, in order, so that a prefix is a range.
    by_id: BTreeMap<String, Arc<Entry>>,
    by_name: HashMap<String, Arc<Entry>>,
}

impl Table {
    fn insert(&mut self, entry: Arc<Entry>) {
        self.remove(entry.route.workload);
        if let Some(name) = &entry.route.name {
            self.by_name.insert(name.to_string(), Arc::clone(&entry));
        }
        self.by_id.insert(entry.route.workload.to_string(), entry);
    }

    fn remove(&mut self, workload: WorkloadId) -> Option<Arc<Entry>> {
        let gone = self.by_id.remove(&workload.to_string())?;
        if let Some(name) = &gone.route.name
            && self.by_name.get(name.as_str()).is_some_and(|entry| Arc::ptr_eq(entry, &gone))
        {
            self.by_name.remove(name.as_str());
        }
        Some(gone)
    }
}

/// The routes. Clones are the same table.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    table: Arc<ArcSwap<Table>>,
    /// Held while the next table is made of the last one.
    edit: Arc<Mutex<()>>,
}

impl Routes {
    /// A table without routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route, or replaces the workload's earlier one.
    pub fn insert(&self, route: Route) {
        self.change(|table| {
            let known = table.by_id.get(&route.workload.to_string());
            if known.is_some_and(|known| known.route == route) {
                return;
            }
            let replaced = table.remove(route.workload);
            table.insert(Entry::new(route));
            retire(replaced);
        });
    }

    /// Takes a workload's route away.
    pub fn remove(&self, workload: WorkloadId) {
        self.change(|table| retire(table.remove(workload)));
    }

    /// Replaces the whole table. Routes that are in both and equal go on as they are.
    pub fn replace(&self, routes: impl IntoIterator<Item = Route>) {
        self.change(|table| {
            let mut next = Table::default();
            for route in routes {
                let known = table.remove(route.workload);
                match known {
                    Some(known) if known.route == route => next.insert(known),
                    changed => {
                        retire(changed);
                        next.insert(Entry::new(route));
                    }
                }
            }
            std::mem::take(&mut table.by_id).into_values().for_each(|gone| retire(Some(gone)));
            *table = next;
        });
    }

    /// The names of all routes that have one, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.table.load().by_name.keys().cloned().collect();
        names.sort();
        names
    }

    /// The route of `label`: a full id, else a name, else a unique prefix of an id. The label is in lower case.
    pub(crate) fn find(&self, label: &str) -> Result<Arc<Entry>, NoRoute> {
        let table = self.table.load();
        let by_id = if label.len() == ID_LEN { table.by_id.get(label) } else { None };
        if let Some(entry) = by_id.or_else(|| table.by_name.get(label)) {
            return Ok(Arc::clone(entry));
        }
        if label.len() < ID_PREFIX_LEN_MIN {
            return Err(NoRoute::Unknown);
        }
        let from = (Bound::Included(label), Bound::Unbounded);
        let mut matches = table.by_id.range::<str, _>(from).take_while(|(id, _)| id.starts_with(label));
        match (matches.next(), matches.next()) {
            (None, _) => Err(NoRoute::Unknown),
            (Some((_, entry)), None) => Ok(Arc::clone(entry)),
            (Some(_), Some(_)) => Err(NoRoute::Ambiguous),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Table)) {
        let _held = self.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        edit(&mut table);
        self.table.store(Arc::new(table));
    }
}

fn retire(entry: Option<Arc<Entry>>) {
    if let Some(entry) = entry {
        entry.retired.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u8, name: &str, state: RouteState) -> Route {
        Route { workload: WorkloadId::from_entropy([id; 16]), name: name.parse().ok(), state }
    }

    fn live(port: u16) -> RouteState {
        RouteState::Live(vec![Backend { address: ([127, 0, 0, 1], port).into() }])
    }

    #[test]
    fn ids_names_and_unique_prefixes_lead_to_a_workload() {
        let routes = Routes::new();
        routes.insert(route(0x11, "web", live(1)));
        routes.insert(route(0x22, "", live(2)));
        let id = WorkloadId::from_entropy([0x11; 16]);
        for label in ["web", &id.to_string(), &id.short(), "1111"] {
            assert_eq!(routes.find(label).unwrap().route.workload, id, "{label}");
        }
        for label in ["111", "nosuch", "", "2222222x"] {
            assert_eq!(routes.find(label).unwrap_err(), NoRoute::Unknown, "{label}");
        }
        let mut close = [0x11; 16];
        close[15] = 0;
        routes.insert(Route { workload: WorkloadId::from_entropy(close), name: None, state: live(3) });
        assert_eq!(routes.find("1111").unwrap_err(), NoRoute::Ambiguous);
    }

    #[test]
    fn a_name_wins_over_the_prefix_that_it_happens_to_be() {
        let routes = Routes::new();
        routes.insert(route(0x11, "", live(1)));
        routes.insert(route(0x22, "1111", live(2)));
        assert_eq!(routes.find("1111").unwrap().route.state, live(2));
    }

    #[test]
    fn what_is_replaced_or_removed_is_retired_and_what_stays_is_not() {
        let routes = Routes::new();
        routes.replace([route(1, "a", live(1)), route(2, "b", live(2)), route(3, "c", live(3))]);
        let [a, b, c] = ["a", "b", "c"].map(|name| routes.find(name).unwrap());
        routes.replace([route(1, "a", live(1)), route(2, "b", live(9))]);
        assert!(!a.retired.is_cancelled() && b.retired.is_cancelled() && c.retired.is_cancelled());
        assert_eq!(routes.find("c").unwrap_err(), NoRoute::Unknown);
        routes.insert(route(1, "a", live(1)));
        assert!(!a.retired.is_cancelled());
        routes.remove(a.route.workload);
        assert!(a.retired.is_cancelled());
    }

    #[test]
    fn a_name_that_moved_stays_with_its_new_owner() {
        let routes = Routes::new();
        routes.insert(route(1, "web", live(1)));
        routes.insert(route(2, "web", live(2)));
        routes.remove(WorkloadId::from_entropy([1; 16]));
        assert_eq!(routes.find("web").unwrap().route.state, live(2));
    }

    #[test]
    fn backends_take_turns() {
        let all = [1, 2, 3].map(|port| Backend { address: ([127, 0, 0, 1], port).into() });
        let entry = Entry::new(route(1, "", RouteState::Live(all.to_vec())));
        let firsts: Vec<u16> = (0..4).map(|_| entry.backends(&all).next().unwrap().address.port()).collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
        assert_eq!(entry.backends(&all).count(), 3);
    }
}
