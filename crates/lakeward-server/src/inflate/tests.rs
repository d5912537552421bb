use std::io::Write;

use super::*;
use crate::body::Budget;

fn packed(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => data.to_vec(),
        Encoding::Gzip => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut w = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(data, 1).unwrap(),
    }
}

const ALL: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

async fn run(encoding: Encoding, body: Vec<u8>, limit: u64, memory: u64) -> Result<Bytes, InflateError> {
    let reservation = Budget::new(memory).reserve(body.len()).unwrap();
    inflate(encoding, Bytes::from(body), limit, reservation).await.map(|(bytes, _)| bytes)
}

#[tokio::test]
async fn unpacks_what_was_packed() {
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
    for encoding in ALL {
        for size in [0, 1, 1 << 20, data.len()] {
            let got = run(encoding, packed(encoding, &data[..size]), 64 << 20, 1 << 30).await.unwrap();
            assert!(got == data[..size], "{encoding:?} {size}");
        }
    }
    let mut two = packed(Encoding::Gzip, b"a\n");
    two.extend(packed(Encoding::Gzip, b"b\n"));
    assert_eq!(run(Encoding::Gzip, two, 100, 1 << 30).await.unwrap(), "a\nb\n");
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    bare.write_all(b"bare").unwrap();
    assert_eq!(run(Encoding::Deflate, bare.finish().unwrap(), 100, 1 << 30).await.unwrap(), "bare");
}

#[tokio::test]
async fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0_u8; 50 << 20];
    for encoding in ALL {
        let bomb = packed(encoding, &zeros);
        let limit = run(encoding, bomb.clone(), 10 << 20, 1 << 30).await;
        assert_eq!(limit, Err(BodyError::TooLarge(10 << 20).into()), "{encoding:?}");
        let memory = run(encoding, bomb, 1 << 30, 8 << 20).await;
        assert_eq!(memory, Err(BodyError::Busy.into()), "{encoding:?}");
    }
}

#[tokio::test]
async fn damage_is_noticed() {
    for encoding in ALL {
        let whole = packed(encoding, &[7_u8; 10_000]);
        for cut in [1, 3, whole.len() - 1] {
            let got = run(encoding, whole[..cut].to_vec(), 1 << 20, 1 << 30).await;
            assert!(matches!(got, Err(InflateError::Malformed(_))), "{encoding:?} {cut} {got:?}");
        }
        let got = run(encoding, b"{\"plain\": 1}".to_vec(), 1 << 20, 1 << 30).await;
        assert!(matches!(got, Err(InflateError::Malformed(_))), "{encoding:?} {got:?}");
    }
}
