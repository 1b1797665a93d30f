//! Where copied things go, by docker's rules: into a directory that is there, else under the name that was given.

use std::ffi::OsString;

use hypercore_api::ErrorKind;
use hypercore_copy::Stat;

use crate::failure::Failure;

/// The name below the destination's base that the source gets; empty when what is in it goes right into the base.
///
/// # Errors
/// A directory can't become a file, and what must be a directory must be there for a file.
pub(super) fn name(source: &Stat, destination: &Stat, shown: &str) -> Result<OsString, Failure> {
    if destination.is_directory {
        return Ok(if source.is_contents { OsString::new() } else { source.name.clone() });
    }
    if destination.exists && source.is_directory {
        let message = format!("{shown} is a file, and a directory can't take its place");
        return Err(Failure::new(ErrorKind::Usage, "not_a_directory", message)
            .with_hint("choose a directory, or a name that isn't there yet"));
    }
    if destination.has_slash && !source.is_directory {
        let message = format!("there is no directory {shown}");
        return Err(Failure::new(ErrorKind::NotFound, "path_not_found", message)
            .with_hint("make it first, or leave out the slash to give the file that name"));
    }
    Ok(destination.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Stat {
        Stat { exists: true, name: name.into(), ..Stat::default() }
    }

    fn directory(name: &str) -> Stat {
        Stat { is_directory: true, is_contents: name == ".", ..file(name) }
    }

    fn nothing(name: &str, has_slash: bool) -> Stat {
        Stat { exists: false, has_slash, ..file(name) }
    }

    #[test]
    fn dockers_table_of_rules() {
        let named = |source: &Stat, destination: &Stat| {
            name(source, destination, "dst")
                .map(|name| name.into_string().unwrap())
                .map_err(|failure| failure.error.code)
        };
        assert_eq!(named(&file("a"), &nothing("b", false)).unwrap(), "b");
        assert_eq!(named(&file("a"), &nothing("b", true)), Err("path_not_found".to_owned()));
        assert_eq!(named(&file("a"), &file("b")).unwrap(), "b");
        assert_eq!(named(&file("a"), &directory("d")).unwrap(), "a");
        assert_eq!(named(&directory("s"), &nothing("b", false)).unwrap(), "b");
        assert_eq!(named(&directory("s"), &nothing("b", true)).unwrap(), "b");
        assert_eq!(named(&directory("s"), &file("b")), Err("not_a_directory".to_owned()));
        assert_eq!(named(&directory("s"), &directory("d")).unwrap(), "s");
        assert_eq!(named(&directory("."), &directory("d")).unwrap(), "");
        assert_eq!(named(&directory("."), &nothing("b", false)).unwrap(), "b");
    }
}
