//! The two sides of a copy, as they are typed: `WORKLOAD:PATH`, a path of ours, or `-`.

use std::path::PathBuf;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// A path in a workload.
    Workload { id: String, path: String },
    /// Something of ours.
    Ours(Local),
}

/// Something on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Local {
    /// A path, absolute, with the `/` or `/.` at its end that it was typed with.
    Path(PathBuf),
    /// A tar stream on standard input or output.
    Stream,
}

impl Side {
    /// Reads a side. What begins with `/` or `.` is a path of ours even with a colon in it, as with docker.
    pub(super) fn of(text: &str) -> Self {
        if text == "-" {
            return Self::Ours(Local::Stream);
        }
        match text.split_once(':') {
            Some((id, path)) if !id.is_empty() && !text.starts_with(['/', '.']) => {
                Self::Workload { id: id.to_owned(), path: path.to_owned() }
            }
            _ => Self::Ours(Local::Path(absolute(text))),
        }
    }
}

/// Joined to the working directory as text: what stands at the path's end says what is meant.
fn absolute(text: &str) -> PathBuf {
    if text.starts_with('/') {
        return PathBuf::from(text);
    }
    // Without a working directory nothing relative can be found anyway.
    let mut path = std::env::current_dir().unwrap_or_default().into_os_string();
    path.push("/");
    path.push(text);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_workload_unless_it_stands_in_a_path() {
        let workload = |id: &str, path: &str| Side::Workload { id: id.into(), path: path.into() };
        assert_eq!(Side::of("web:/etc"), workload("web", "/etc"));
        assert_eq!(Side::of("web:"), workload("web", ""));
        assert_eq!(Side::of("web:/a:b"), workload("web", "/a:b"));
        assert_eq!(Side::of("-"), Side::Ours(Local::Stream));
        assert_eq!(Side::of("/a:b"), Side::Ours(Local::Path("/a:b".into())));
        for text in ["./a:b", "..", ".", ":x", "plain"] {
            assert!(matches!(Side::of(text), Side::Ours(Local::Path(_))), "{text}");
        }
    }

    #[test]
    fn what_stands_at_the_end_of_a_path_is_kept() {
        for text in ["dir/.", "dir/", "."] {
            let Side::Ours(Local::Path(path)) = Side::of(text) else { panic!("{text}") };
            let path = path.into_os_string().into_string().unwrap();
            assert!(path.starts_with('/') && path.ends_with(text), "{path}");
        }
    }
}
