//! ctrl-p ctrl-q: the keys that leave a workload running, as docker has them. A ctrl-p is held back until the next
//! key tells what it was.

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// Looks for the keys in what is typed.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    is_ctrl_p_held: bool,
}

impl DetachKeys {
    /// What of `typed` goes to the workload, and whether the user leaves after it.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            if self.is_ctrl_p_held {
                if key == CTRL_Q {
                    self.is_ctrl_p_held = false;
                    return (passed, true);
                }
                passed.push(CTRL_P);
            }
            self.is_ctrl_p_held = key == CTRL_P;
            if !self.is_ctrl_p_held {
                passed.push(key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_found_across_reads_and_nothing_else_is_lost() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(keys.filter(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
        assert_eq!(keys.filter(b"\x11"), (b"\x11".to_vec(), false));
    }
}
