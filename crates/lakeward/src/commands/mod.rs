//! One file per command.

pub(crate) mod audit;
pub(crate) mod backfill;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod daemon;
pub(crate) mod ddl;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod fsck;
pub(crate) mod init;
pub(crate) mod lambda;
pub(crate) mod ls;
pub(crate) mod pull;
pub(crate) mod quarantine;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod target;
pub(crate) mod test;
