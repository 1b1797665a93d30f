//! Adding and removing elements of an nft table by netlink itself: a tenth of a millisecond, where a process of `nft`
//! takes four. It refuses to make tables, chains and rules: those are text, for `nft` to read and people too.
//!
//! Wire format: linux/netfilter/nfnetlink.h and nf_tables.h. A batch is one transaction: all of it happens or nothing.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use super::element::{Element, Rate};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`; also the high byte of its message types.
const SUBSYSTEM: u16 = 10;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
/// `NFPROTO_INET`, and no family for what frames a batch.
const INET: u8 = 1;
const UNSPECIFIED: u8 = 0;
/// Attributes of `NFT_MSG_NEWSETELEM`: `NFTA_SET_ELEM_LIST_*`, `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_*`, `NFTA_DATA_VALUE`.
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const ELEMENT_EXPRESSION: u16 = 7;
/// Attributes of an expression and of `limit`: `NFTA_EXPR_*`, `NFTA_LIMIT_*`; `NFT_LIMIT_PKT_BYTES`, `NFT_LIMIT_F_INV`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LIMIT_RATE: u16 = 1;
const LIMIT_UNIT: u16 = 2;
const LIMIT_BURST: u16 = 3;
const LIMIT_TYPE: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
const OF_BYTES: u32 = 1;
const OVER: u32 = 1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLMSG_ERROR`, whose code 0 is an acknowledgement, and the length of `struct nlmsghdr`.
const ERROR: u16 = 2;
const HEADER_LEN: usize = 16;

/// A socket to the firewall of the network namespace that it was opened in. It is kept open: closing one after a
/// removal waits for the kernel to forget what was removed, which takes ten times as long as all the rest.
#[derive(Debug)]
pub(super) struct Nftables(Mutex<Socket>);

impl Nftables {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers before sending returns: there is never anything to wait for.
        socket.set_non_blocking(true)?;
        Ok(Self(Mutex::new(socket)))
    }

    /// Adds elements to the table in one transaction. Those that exist already, with the same data, are fine.
    pub(super) fn add(&self, table: &str, elements: &[Element]) -> io::Result<()> {
        self.commit(&batch(table, &all(NEW_ELEMENT, elements)))
    }

    /// Removes elements from the table in one transaction. Those that don't exist are fine.
    pub(super) fn remove(&self, table: &str, elements: &[Element]) -> io::Result<()> {
        // Older kernels can't remove what may not exist (`NFT_MSG_DESTROYSETELEM` came with 6.3): it is added first.
        self.commit(&batch(table, &[all(NEW_ELEMENT, elements), all(DELETE_ELEMENT, elements)].concat()))
    }

    /// Sends a batch and reads all of the kernel's verdict.
    fn commit(&self, batch: &[u8]) -> io::Result<()> {
        // Each exchange is complete or an error that leaves nothing unread, so a poisoned socket is still right.
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.send(batch, 0)?;
        let mut verdicts = Vec::new();
        loop {
            match socket.recv_from_full() {
                Ok((datagram, _)) => verdicts.push(verdict(&datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => verdicts.push(Err(error)),
            }
        }
        let is_acknowledged =
            verdicts.into_iter().try_fold(false, |so_far, now| Ok::<_, io::Error>(now? | so_far))?;
        let silent = || io::Error::new(io::ErrorKind::InvalidData, "the kernel did not answer");
        is_acknowledged.then_some(()).ok_or_else(silent)
    }
}

/// A message type for each of these elements.
fn all(kind: u16, elements: &[Element]) -> Vec<(u16, &Element)> {
    elements.iter().map(|element| (kind, element)).collect()
}

/// The bytes of one transaction. Its last change alone is to be acknowledged: refused ones answer unasked.
fn batch(table: &str, changes: &[(u16, &Element)]) -> Vec<u8> {
    let mut bytes = message(BATCH_BEGIN, 0, UNSPECIFIED, &[]);
    for (position, (kind, element)) in changes.iter().enumerate() {
        let create = if *kind == NEW_ELEMENT { NLM_F_CREATE } else { 0 };
        let acknowledge = if position + 1 == changes.len() { NLM_F_ACK } else { 0 };
        bytes.extend(message(*kind, create | acknowledge, INET, &change(table, element)));
    }
    bytes.extend(message(BATCH_END, 0, UNSPECIFIED, &[]));
    bytes
}

/// The attributes that name an element and where it belongs.
fn change(table: &str, element: &Element) -> Vec<u8> {
    let name = |kind, name: &str| attribute(kind, &[name.as_bytes(), &[0]].concat());
    let value = |kind, bytes: &[u8]| nested(kind, &attribute(DATA_VALUE, bytes));
    let mut body = value(ELEMENT_KEY, &element.key);
    if let Some(data) = &element.data {
        body.extend(value(ELEMENT_DATA, data));
    }
    if let Some(rate) = element.rate {
        body.extend(nested(ELEMENT_EXPRESSION, &over(rate)));
    }
    let list = nested(LIST_ELEMENTS, &nested(LIST_ELEMENT, &body));
    [name(LIST_TABLE, table), name(LIST_SET, element.set), list].concat()
}

/// The expression that holds for what is over a rate: `limit`, of bytes a second.
fn over(rate: Rate) -> Vec<u8> {
    let limit = [
        attribute(LIMIT_RATE, &rate.bytes_per_s.to_be_bytes()),
        attribute(LIMIT_UNIT, &1_u64.to_be_bytes()),
        attribute(LIMIT_BURST, &rate.burst_bytes.to_be_bytes()),
        attribute(LIMIT_TYPE, &OF_BYTES.to_be_bytes()),
        attribute(LIMIT_FLAGS, &OVER.to_be_bytes()),
    ];
    [attribute(EXPRESSION_NAME, b"limit\0"), nested(EXPRESSION_DATA, &limit.concat())].concat()
}

/// One message: `struct nlmsghdr`, then `struct nfgenmsg` (family, version, resource), then attributes.
fn message(kind: u16, flags: u16, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + 4 + body.len()).expect("two names and a few numbers are short");
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // No sequence and no port: a batch is sent when all of the one before was answered.
    bytes.extend([0; 8]);
    // What frames a batch names the subsystem it is for.
    let resource = if family == UNSPECIFIED { SUBSYSTEM } else { 0 };
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Whether a datagram of answers holds the acknowledgement; the first refusal in it is the error.
fn verdict(datagram: &[u8]) -> io::Result<bool> {
    let mut rest = datagram;
    let mut is_acknowledged = false;
    while let Some((header, body)) = rest.split_at_checked(HEADER_LEN) {
        let number = |bytes: &[u8]| bytes.try_into().map(i32::from_ne_bytes).unwrap_or_default();
        let len = usize::try_from(number(&header[..4])).unwrap_or_default().max(HEADER_LEN);
        if u16::from_ne_bytes([header[4], header[5]]) == ERROR {
            match body.get(..4).map(number) {
                Some(0) => is_acknowledged = true,
                Some(code) => return Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                None => return Err(io::Error::new(io::ErrorKind::InvalidData, "a verdict without its code")),
            }
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(is_acknowledged)
}

/// An attribute, padded to four bytes (netlink(7), `RTA_ALIGN`).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("a value is a name or an address");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_and_tells_its_unpadded_length() {
        assert_eq!(attribute(1, b"abc"), [[7, 0, 1, 0], *b"abc\0"].concat());
        assert_eq!(nested(3, &[]), [4, 0, 3, 0x80]);
    }

    #[test]
    fn the_last_change_of_a_batch_is_acknowledged_and_no_other() {
        let element = Element { set: "s", key: vec![0, 80], data: None, rate: None, text: String::new() };
        let bytes = batch("t", &[(NEW_ELEMENT, &element), (DELETE_ELEMENT, &element)]);
        let (mut rest, mut flags) = (bytes.as_slice(), Vec::new());
        while let Some(len) = rest.first_chunk().map(|len| u32::from_ne_bytes(*len) as usize) {
            flags.push(u16::from_ne_bytes([rest[6], rest[7]]) & !NLM_F_REQUEST);
            assert_eq!(len % 4, 0);
            rest = &rest[len..];
        }
        assert_eq!(flags, [0, NLM_F_CREATE, NLM_F_ACK, 0]);
    }

    #[test]
    fn a_verdict_is_an_acknowledgement_a_refusal_or_garbage() {
        let answer = |code: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(ERROR.to_ne_bytes());
            bytes.resize(HEADER_LEN, 0);
            bytes.extend(code.to_ne_bytes());
            bytes.resize(36, 0);
            bytes
        };
        assert!(verdict(&answer(0)).unwrap());
        let refused = verdict(&[answer(0), answer(-2)].concat()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(!verdict(&[]).unwrap());
        assert!(verdict(&answer(0)[..18]).is_err());
    }
}
