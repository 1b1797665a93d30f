//! Properties of the protocol: whatever was said is understood, and nothing that arrives can do harm.

use hypercore_wire::{
    Decoder, Flags, Frame, Message, StreamId,
    frame::PAYLOAD_LEN_MAX,
    message::{Exec, Size, Stdin, Window},
};
use proptest::prelude::*;

fn messages() -> impl Strategy<Value = Message> {
    let size = prop::option::of((any::<u16>(), any::<u16>()));
    let exec = (
        prop::collection::vec(".*", 0..4),
        prop::collection::vec(".*", 0..4),
        prop::option::of(".*"),
        prop::option::of(".*"),
        any::<[bool; 2]>(),
        size,
    );
    let exec = exec.prop_map(|(argv, env, cwd, user, [tty, stdin], size)| {
        let size = size.map(|(rows, columns)| Size { rows, columns });
        Exec { argv, env, cwd, user, tty, stdin, size }.into()
    });
    let stdin = prop::collection::vec(any::<u8>(), 0..2000).prop_map(|data| Stdin { data }.into());
    prop_oneof![exec, stdin, any::<u32>().prop_map(|bytes| Window { bytes }.into())]
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_however_it_was_cut(
        sent in prop::collection::vec((any::<u32>(), any::<u8>(), messages()), 1..8),
        cut in 1usize..700,
    ) {
        let mut bytes = Vec::new();
        for (stream, flags, message) in &sent {
            message.encode_to(StreamId(*stream), Flags(*flags), &mut bytes).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut received = Vec::new();
        for piece in bytes.chunks(cut) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                received.push((frame.stream.0, frame.flags.0, Message::decode(&frame.payload).unwrap()));
            }
        }
        prop_assert!(decoder.is_at_boundary());
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn garbage_is_survived(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut decoder = Decoder::new();
        for piece in pieces {
            decoder.push(&piece);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.payload.len() <= PAYLOAD_LEN_MAX);
                let _ = Message::decode(&frame.payload);
            }
        }
    }

    #[test]
    fn a_damaged_message_is_survived(message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = message.encode();
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = Message::decode(&payload);
        let _ = Message::decode(&payload[..at]);
        let mut bytes = Vec::new();
        Frame { stream: StreamId(1), flags: Flags::NONE, payload }.encode_to(&mut bytes).unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&bytes[..at]);
        prop_assert!(matches!(decoder.next_frame(), Ok(None)));
    }
}
