//! The machine's id (machine-id(5)), which programs take for what no two machines share. It refuses to invent one for an
//! image that has none.

use std::{
    fs::File,
    io::{self, Read},
};

use nix::fcntl::OFlag;

use crate::inside;

/// Where the id is, and where D-Bus looks for the same one.
const PATHS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Writes a new id wherever there is one, the same to all.
pub(crate) fn renew() -> io::Result<()> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let id = format!("{}\n", as_text(bytes));
    for path in PATHS {
        // What a link leads to is its own entry of the list, or the image's affair.
        let found = inside::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).and_then(|file| file.metadata());
        if found.is_ok_and(|metadata| metadata.is_file()) {
            inside::replace(path, &id)?;
        }
    }
    Ok(())
}

/// As systemd writes it: 32 digits, of a random UUID (RFC 9562, version 4).
fn as_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_random_uuid_without_dashes() {
        assert_eq!(as_text([0xff; 16]), "ffffffffffff4fffbfffffffffffffff");
        assert_eq!(as_text([0; 16]), "00000000000040008000000000000000");
    }
}
