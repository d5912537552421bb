//! `lakeward audit`: prove that nothing was lost or doubled.

use std::collections::HashMap;

use lakeward_engine::PipelineStatus;

use super::target::{Inspected, TargetArguments, unknown};
use crate::audit::{self, Audit as PipelineAudit};
use crate::config::Config;
use crate::exit::Code;
use crate::terminal::{Output, count};
use crate::wiring::Place;

/// Prove that nothing was lost or doubled: every record is accounted for, and
/// every file of the ledger lies in the lake with its rows, and no other.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    target: TargetArguments,
    /// Only this pipeline.
    pipeline: Option<String>,
}

impl Audit {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let audits = audit_all(&inspected, &config, self.pipeline.as_deref()).await?;
        let balanced = report(out, &audits)?;
        Ok(if balanced { Code::Done } else { Code::Data })
    }
}

/// Audits every pipeline, or the named one.
pub(crate) async fn audit_all(
    inspected: &Inspected,
    config: &Config,
    only: Option<&str>,
) -> anyhow::Result<Vec<PipelineAudit>> {
    let mut statuses: HashMap<String, PipelineStatus> =
        inspected.status().await?.into_iter().map(|status| (status.pipeline.clone(), status)).collect();
    if let Some(only) = only
        && !statuses.contains_key(only)
    {
        return Err(unknown(only, &statuses.keys().collect::<Vec<_>>()));
    }
    let batches = inspected.batches().await?;
    let mut audits = Vec::new();
    for spec in inspected.pipelines(config).await? {
        let Some(status) = statuses.remove(&spec.name) else { continue };
        if only.is_some_and(|only| only != spec.name) {
            continue;
        }
        let place = Place::open(&config.firehose.buckets, &spec.destination).map_err(anyhow::Error::msg)?;
        audits.push(audit::audit(status, &spec, &place, &batches).await?);
    }
    Ok(audits)
}

/// Prints the audits; whether all of them add up.
pub(crate) fn report(out: &Output, audits: &[PipelineAudit]) -> anyhow::Result<bool> {
    let balanced = audits.iter().all(|audit| audit.balanced);
    if out.is_json() {
        out.json(&serde_json::json!({ "balanced": balanced, "pipelines": audits }))?;
        return Ok(balanced);
    }
    for audit in audits {
        let (status, counts) = (&audit.status, &audit.status.counts);
        out.say(format!("{}  ({})", status.pipeline, status.destination));
        out.say("  received = delivered + filtered + duplicates + quarantined + pending");
        out.say(format!(
            "  {} = {} + {} + {} + {} + {}",
            count(status.received),
            count(counts.delivered),
            count(counts.filtered),
            count(counts.duplicates),
            count(counts.quarantined),
            count(status.pending),
        ));
        out.say(format!(
            "  in the lake: {} of {} files, {} of {} rows",
            count(audit.files_found),
            count(audit.files_expected),
            count(audit.rows_found),
            count(audit.rows_expected),
        ));
        if audit.quarantine_expected > 0 {
            out.say(format!(
                "  in quarantine files: {} of {} records",
                count(audit.quarantine_found),
                count(audit.quarantine_expected),
            ));
        }
        if status.replayed > 0 {
            out.say(format!(
                "  replayed: {} left quarantine, {} of them settled again",
                count(status.replayed),
                count(status.replays_settled),
            ));
        }
        if audit.rows_elsewhere + audit.quarantine_elsewhere > 0 {
            out.say(format!(
                "  {} rows and {} quarantined records lie at a former destination, which was not looked at",
                count(audit.rows_elsewhere),
                count(audit.quarantine_elsewhere),
            ));
        }
        if audit.files_replaced > 0 {
            out.say(format!(
                "  replaced: {} files with {} rows and {} quarantined records",
                count(audit.files_replaced),
                count(audit.rows_replaced),
                count(audit.quarantine_replaced),
            ));
        }
        for finding in &audit.findings {
            out.say(format!("  ! {}: {}", finding.file, finding.problem));
        }
        out.say(if audit.balanced { "  balanced: nothing lost, nothing doubled" } else { "  NOT balanced" });
    }
    Ok(balanced)
}
