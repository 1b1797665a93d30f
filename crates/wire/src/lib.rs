//! The framed protocol that agent, shim and guest speak over one byte stream.
//!
//! ```text
//!   client (agent)                                      server (shim, guest)
//!      | -------- stream 0: Hello{1,2} ------------------> |
//!      | <------- stream 0: Hello{1,1} ------------------- |   both: the lower of the two newest generations
//!      | -------- stream 1: Exec{argv, ...} -------------> |
//!      | -------- stream 1: Window{65536} ---------------> |   may send so many bytes of output
//!      | <------- stream 1: ExecStarted{pid} ------------- |
//!      | <------- stream 1: Window{32768} ---------------- |   may send so many bytes of input
//!      | <------- stream 1: Stdout{data} ----------------- |
//!      | <------- stream 1: Exited{...} + END_STREAM ----- |
//! ```
//!
//! Invariants:
//! - No sockets, no clocks: bytes go into a [`Decoder`], bytes come out of [`Frame::encode_to`].
//! - Nothing is allocated because a peer announced it: a frame's length is checked before its bytes are kept, and
//!   memory grows only by bytes that arrived.
//! - Only the client opens streams; stream 0 is the connection's own. A stream's credit starts at zero each way.
//! - Message numbers and field numbers are only ever appended (golden tests freeze them). A message of an unknown type
//!   is answered with [`ErrorCode::UNSUPPORTED`] on its stream, an unknown field is skipped: a newer peer does no harm.
//! - It knows nothing of the house: ids and statuses travel as plain text and numbers.
//!
//! Reading order: [`frame`], [`message`], [`negotiation`], [`credit`].

pub mod credit;
pub mod frame;
pub mod message;
pub mod negotiation;

pub use credit::Credit;
pub use frame::{Decoder, Flags, Frame, StreamId};
pub use message::{ErrorCode, Message};
pub use negotiation::{NEWEST, OLDEST, generation_of, negotiate};
