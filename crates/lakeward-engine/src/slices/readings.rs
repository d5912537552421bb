//! What became of a slice in all its readings: a run may take it once more, and
//! its name may have had other contents.

use std::collections::{BTreeMap, HashMap};

use lakeward_columnar::build::SliceCounts;
use lakeward_model::{SliceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::control::SliceStatus;
use crate::instant;
use crate::ledger::slices::SliceRecord;

/// A slice that was taken once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The id that these records have.
    pub id: SliceId,
    /// Its records then.
    pub records: u64,
    /// When it was taken.
    #[serde(with = "instant")]
    pub taken_at: Timestamp,
    /// What became of these records, by pipeline.
    pub pipelines: BTreeMap<String, SliceCounts>,
}

/// What pipelines made of slices.
pub(super) type Counts = Vec<(String, HashMap<SliceId, SliceCounts>)>;

/// Tells what the pipelines made of a slice, of which all of `known` was taken
/// under its name.
pub(super) fn tell(status: &mut SliceStatus, known: &[(SliceId, SliceRecord)], counts: &Counts) {
    let once_more = known.iter().filter(|(id, record)| {
        *id != status.id && record.slice.version == status.version && record.set_aside.is_none()
    });
    status.again = once_more.max_by_key(|(_, record)| record.taken_at).map(|(id, record)| Reading {
        id: *id,
        records: record.records,
        taken_at: record.taken_at,
        pipelines: BTreeMap::new(),
    });
    let last = status.again.as_ref().map_or(status.id, |again| again.id);
    for (pipeline, counts) in counts {
        let of = |id: SliceId| counts.get(&id).copied().unwrap_or_default();
        if status.records.is_some() {
            status.pipelines.insert(pipeline.clone(), of(status.id));
        }
        if let Some(again) = &mut status.again {
            again.pipelines.insert(pipeline.clone(), of(last));
        }
        let others = known.iter().filter(|(id, _)| *id != last).map(|(id, _)| of(*id));
        if let Some(sum) = others.reduce(|sum, counts| sum.plus(&counts)) {
            status.others.insert(pipeline.clone(), sum);
        }
    }
}
