//! What the state is asked about quarantine: through the running process, or
//! directly.

use std::collections::HashSet;

use lakeward_engine::{Quarantined, ReplayAnswer};
use lakeward_model::{Offset, Span};

use crate::commands::target::{Inspected, pipeline_path};

/// Offsets asked for at a time.
const OFFSETS_AT_ONCE: usize = 100_000;

impl Inspected {
    /// Which records of a span of a source left the pipeline's quarantine.
    pub(super) async fn replayed(
        &self,
        pipeline: &str,
        source: uuid::Uuid,
        span: Span,
    ) -> anyhow::Result<HashSet<Offset>> {
        let mut all = HashSet::new();
        let mut from = span.from;
        loop {
            let page: Vec<Offset> = match self {
                Self::Remote(remote) => {
                    let path = pipeline_path(pipeline);
                    let query = format!("source={source}&from={from}&limit={OFFSETS_AT_ONCE}");
                    remote.get(&format!("{path}/replayed?{query}")).await?
                }
                Self::Offline(offline) => offline.replayed(pipeline, source, from, OFFSETS_AT_ONCE)?,
                Self::Here(control) => control.replayed(pipeline, source, from, OFFSETS_AT_ONCE).await?,
            };
            let ended = page.len() < OFFSETS_AT_ONCE || page.last().is_some_and(|last| *last >= span.to);
            from = page.last().map_or(from, |last| last.plus(1));
            all.extend(page.into_iter().filter(|offset| *offset < span.to));
            if ended {
                return Ok(all);
            }
        }
    }

    /// Lets records leave quarantine; each leaves once.
    pub(super) async fn replay(
        &self,
        pipeline: &str,
        records: &[Quarantined],
    ) -> anyhow::Result<ReplayAnswer> {
        match self {
            Self::Remote(remote) => {
                let records: Vec<serde_json::Value> = records.iter().map(entry).collect();
                let body = serde_json::json!({ "records": records });
                remote.post(&format!("{}/replay", pipeline_path(pipeline)), &body).await
            }
            Self::Offline(offline) => offline.replay(pipeline, records),
            Self::Here(control) => Ok(control.replay(pipeline, records.to_vec()).await?),
        }
    }
}

fn entry(record: &Quarantined) -> serde_json::Value {
    serde_json::json!({
        "source": record.source,
        "offset": record.offset,
        "received_at": record.received_at,
        "data_base64": base64_simd::STANDARD.encode_to_string(&record.data),
    })
}
