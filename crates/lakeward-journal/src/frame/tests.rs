//! Round trips, and bytes that are no frames.

use proptest::prelude::*;

use super::*;

fn seed() -> Seed {
    Seed::new(Uuid::from_u128(7), 1000)
}

fn encoded(position: u64, records: &Records, origin: &Origin) -> Bytes {
    let frame = Frame {
        kind: if records.keys.is_some() { Kind::Keyed } else { Kind::Records },
        first: 1000,
        received_at: Timestamp(-3),
        synced: position,
        origin,
        count: records.ends.len() as u32,
        ends: &records.ends,
        data: &records.data,
        keys: records.keys.as_ref(),
    };
    let mut out = Vec::new();
    let padding = encode(seed(), position, &frame, &mut out);
    out.extend_from_slice(&records.data);
    out.extend_from_slice(records.keys.as_ref().map_or(&[], |keys| &keys.data));
    out.resize(out.len() + padding, 0);
    out.into()
}

fn origins() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Push(None)),
        prop::collection::vec(any::<u8>(), 1..256).prop_map(|key| Origin::Push(RequestKey::new(key))),
        prop::collection::vec(any::<u8>(), 0..500).prop_map(|cursor| Origin::Pull(Cursor(cursor.into()))),
    ]
}

fn pieces(texts: impl Iterator<Item = Vec<u8>>) -> (Bytes, Vec<u32>) {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for text in texts {
        data.extend_from_slice(&text);
        ends.push(data.len() as u32);
    }
    (data.into(), ends)
}

fn record_sets() -> impl Strategy<Value = Records> {
    let text = || prop::collection::vec(any::<u8>(), 0..40);
    (prop::collection::vec((text(), text()), 0..20), any::<bool>()).prop_map(|(texts, keyed)| {
        let (data, ends) = pieces(texts.iter().map(|(text, _)| text.clone()));
        let keys = keyed.then(|| pieces(texts.into_iter().map(|(_, key)| key)));
        Records { data, ends, keys: keys.map(|(data, ends)| Keys { data, ends }) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(records in record_sets(), origin in origins(), place in 0..1_000_u64) {
        let frame = encoded(place * 8, &records, &origin);
        prop_assert_eq!(frame.len() as u64, frame_bytes(&records, &origin));
        let header = decode(seed(), place * 8, &frame).expect("a frame");
        prop_assert_eq!(header.frame_bytes(), frame.len() as u64);
        prop_assert_eq!(header.origin(&frame), origin);
        prop_assert_eq!(super::records(&header, &frame), Ok(records));
        prop_assert!(decode(seed(), place * 8 + 8, &frame).is_err(), "a copy elsewhere is no frame");
        prop_assert!(decode(Seed::new(Uuid::from_u128(8), 1000), place * 8, &frame).is_err());
    }

    #[test]
    fn changed_frames_are_noticed(records in record_sets(), origin in origins(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut frame = encoded(64, &records, &origin).to_vec();
        let at = at.index(frame.len());
        frame[at] ^= 1_u8 << bit;
        let frame = Bytes::from(frame);
        if let Ok(header) = decode(seed(), 64, &frame) {
            prop_assert!(super::records(&header, &frame).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), sealed: bool) {
        if sealed && bytes.len() >= HEADER_BYTES {
            // Garbage whose checksum is right.
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[12] %= 5;
            bytes[13] %= 4;
            bytes[14..16].copy_from_slice(&4_u16.to_le_bytes());
            bytes.resize(bytes.len().max(52), 0);
            let crc = seed().header_crc(1 << 60, &bytes[8..52]);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        let bytes = Bytes::from(bytes);
        if let Ok(header) = decode(seed(), 1 << 60, &bytes) {
            let _ = header.origin(&bytes);
            if header.frame_bytes() <= bytes.len() as u64 {
                let frame = bytes.slice(..header.frame_bytes() as usize);
                let mut right = header;
                right.body_crc = crc32c::crc32c(&frame[header.body_at()..]);
                let _ = super::records(&right, &frame);
            }
        }
    }
}

#[test]
fn markers_and_zeros() {
    let bytes = marker(seed(), 4096, 12, Timestamp(5));
    assert_eq!(bytes.len() as u64, MARKER_BYTES);
    let header = decode(seed(), 4096, &bytes).expect("a frame");
    assert_eq!((header.kind, header.synced, header.first, header.end()), (Kind::Marker, 4096, 12, 12));
    assert_eq!(decode(seed(), 0, &[0; HEADER_BYTES]), Err(NoFrame::Blank));
    assert_eq!(decode(seed(), 0, &bytes[..40]), Err(NoFrame::Short(HEADER_BYTES)));
}
