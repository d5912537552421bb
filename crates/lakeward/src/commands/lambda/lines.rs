//! Lines in an event, as the records of an object.

use bytes::Bytes;
use lakeward_model::{Keys, Lineage, Records, SliceId};

/// A record of each line that is not blank; `None` if they are too many.
pub(super) fn records(key: &str, id: SliceId, body: &str) -> Option<Records> {
    let (mut data, mut ends, mut keys, mut key_ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (line, text) in (1..).zip(body.split('\n')) {
        let text = text.trim_end_matches('\r');
        if text.trim().is_empty() {
            continue;
        }
        data.extend_from_slice(text.as_bytes());
        ends.push(u32::try_from(data.len()).ok()?);
        Lineage { slice: id, file: key, line, fields: "" }.write(&mut keys);
        key_ends.push(u32::try_from(keys.len()).ok()?);
    }
    let keys = Keys { data: Bytes::from(keys), ends: key_ends };
    Some(Records { data: data.into(), ends, keys: Some(keys) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_place() {
        let records = records("a/b.jsonl", SliceId(7), "{}\r\n\n{\"a\":1}").unwrap();
        let texts: Vec<&[u8]> = records.iter().collect();
        assert_eq!(texts, [&b"{}"[..], b"{\"a\":1}"]);
        let keys = records.keys.unwrap();
        let lineage = Lineage::read(keys.get(1)).unwrap();
        assert_eq!((lineage.file, lineage.line, lineage.slice), ("a/b.jsonl", 3, SliceId(7)));
    }
}
