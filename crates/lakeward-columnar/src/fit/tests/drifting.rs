//! Drifting streams through a transform that knows no schema: every batch has
//! its own columns, and the table's schema takes them.

use lakeward_model::Records;
use proptest::prelude::*;

use crate::decode::{DecodeOptions, Decoded, Decoder};
use crate::drifting::{Stream, broken, declared, fault, rows_with_rescues};
use crate::fit::{FitOptions, fit};
use crate::schema::{RESCUED, TableSchema, ToArrow};
use crate::shape::Contract;

fn decode(options: DecodeOptions, texts: &[String]) -> Decoded {
    let mut decoder = Decoder::new(&TableSchema::default(), options);
    let mut ends = Vec::new();
    for text in texts {
        ends.push(ends.last().unwrap_or(&0) + text.len() as u32);
    }
    decoder.push_records(&Records::new(texts.concat().into(), ends)).unwrap();
    decoder.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_leaf_of_a_drifting_stream_reads_back(seed: u64) {
        let mut stream = Stream::new(seed);
        let mut decoding = DecodeOptions::default();
        if stream.declared {
            decoding.columns = declared();
        }
        let mut options = FitOptions::default();
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
            let decoded = decode(decoding.clone(), &texts);
            let fitted = fit(&decoded.rows, None, &schema, &options).unwrap();
            prop_assert_eq!(fault(&fitted.rows, &records), None, "{:?}", texts);
            prop_assert_eq!(broken(&schema, &fitted.schema), None);
            prop_assert_eq!(fitted.rows.schema(), fitted.schema.to_arrow());
            let mut rescued = fitted.misfits.clone();
            rescued.extend(&decoded.rescued_rows);
            rescued.sort_unstable();
            rescued.dedup();
            prop_assert_eq!(&rescued, &rows_with_rescues(&fitted.rows));
            if options.contract == Contract::Freeze && !schema.is_empty() {
                let kept = fitted.schema.columns.iter().filter(|column| column.name != RESCUED);
                let before = schema.columns.iter().filter(|column| column.name != RESCUED);
                prop_assert!(kept.eq(before));
            }
            let again = fit(&fitted.rows, None, &fitted.schema, &options).unwrap();
            prop_assert_eq!(&again.rows, &fitted.rows, "what fits stays");
            prop_assert_eq!((again.misfits.len(), again.rescued), (0, fitted.rescued));
            schema = fitted.schema;
        }
    }
}
