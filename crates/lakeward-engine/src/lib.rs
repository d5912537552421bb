//! Intake, plan, ledger and the pipeline loop: what makes delivery exactly
//! once.
//!
//! One event's way through this crate: [`Intake::accept`] appends it to the
//! journal and answers after the fsync; [`plan`] cuts the pending records of a
//! pipeline into a [`plan::Plan`], which the [`ledger`] stores before anything
//! else happens; [`pipeline`] builds and delivers the planned batch; the ledger
//! commits everything that moves with `delivered_to` in one transaction.

pub mod catalog;
mod control;
pub mod dedup;
mod deliver;
mod engine;
mod folder;
pub mod instant;
mod intake;
pub mod lambda;
pub mod ledger;
mod lock;
mod pipeline;
pub mod plan;
mod retention;
pub mod schedule;
pub mod slices;
mod source;
mod spec;
mod status;
mod stored;
mod streams;

pub use catalog::{CatalogState, CatalogStatus, OpenCatalog, OpenedCatalog};
pub use control::{Control, ControlError};
pub use engine::{
    AutoPipeline, CompileSql, Connectors, Engine, EngineOptions, OpenDestination, OpenEngineError,
    OpenFunction, Opened, RemoveFile,
};
pub use intake::{AcceptError, Accepted, Intake};
pub use lakeward_columnar::build::SliceCounts;
pub use ledger::runs::{
    Asked, Run, RunError, RunErrorKind, RunKind, RunRequest, RunSlice, RunSliceState, RunState, StreamEnd,
};
pub use ledger::{BatchKey, BatchRecord, Counts, Ledger, LedgerError, Progress, Quarantined, ReplayAnswer};
pub use lock::{Holder, LockError, StateLock};
pub use schedule::{Schedule, ScheduleError};
pub use slices::{Reading, SliceList, SliceState, SliceStatus, SlicedSpec, SlicesError};
pub use source::{SlicesStatus, SourceSpec, SourceState, SourceStatus};
pub use spec::{BatchLimits, PipelineSpec};
pub use status::{PipelineState, PipelineStatus};
pub use stored::{From as RecordsFrom, StoredRecord};
pub use streams::{StreamSpec, Streams};
