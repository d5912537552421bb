//! Thousands of streams that drift: nothing is lost and nothing is there twice.

use proptest::prelude::*;

use super::*;
use crate::drifting::{Stream, broken, declared, fault, rows_with_rescues};
use crate::shape::Contract;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_leaf_of_a_drifting_stream_reads_back(seed: u64) {
        let mut stream = Stream::new(seed);
        let mut options = DecodeOptions::default();
        if stream.declared {
            options.columns = declared();
        }
        if stream.below(4) == 0 {
            options.contract = Contract::Freeze;
        }
        if stream.below(4) == 0 {
            options.column_limit = stream.below(12) as usize;
        }
        let mut schema = TableSchema::default();
        for _ in 0..1 + stream.below(4) {
            let records = stream.batch();
            let texts: Vec<_> = records.iter().map(|record| record.sent.to_string()).collect();
            let decoded = decode_with(&schema, options.clone(), &texts);
            prop_assert_eq!(&decoded.rejected, &[]);
            prop_assert_eq!(fault(&decoded.rows, &records), None, "{:?}", texts);
            prop_assert_eq!(broken(&schema, &decoded.schema), None);
            prop_assert_eq!(&decoded.rescued_rows, &rows_with_rescues(&decoded.rows));
            if options.contract == Contract::Freeze && !schema.is_empty() {
                let kept = decoded.schema.columns.iter().filter(|column| column.name != RESCUED);
                let before = schema.columns.iter().filter(|column| column.name != RESCUED);
                prop_assert!(kept.eq(before));
            }
            schema = decoded.schema;
        }
    }
}
