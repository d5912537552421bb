//! Finds all the rows that a table will not take, by trying parts of the files
//! in a transaction that is rolled back.

use std::ops::Range;

use lakeward_model::{Failure, UnfitRow};

/// Rows that are tried at once where all seems well.
const WINDOW: u64 = 4096;
/// Rows that are tried first behind one that did not fit: others like it may
/// follow, and what is behind them is sent for nothing.
const WARY: u64 = 16;
/// The most rows that are looked for; the engine takes no more of one batch.
pub(crate) const UNFIT_MAX: usize = 10_000;
/// From how many rows on it is the table and not the rows that is at fault, if
/// none of them fits.
const ALL_MEANS_THE_TABLE: usize = 10;

/// Why a part was not taken.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The row at fault, if the server names one. It is tried alone before it
    /// is believed.
    pub(crate) row: Option<u64>,
    /// Why, for quarantine.
    pub(crate) message: String,
    /// Why, without values.
    pub(crate) summary: String,
}

/// Something that rows can be tried on.
#[async_trait::async_trait]
pub(crate) trait Trial: Send {
    /// Tries rows of the `file`-th file. Those that are taken stay there for
    /// what is tried next, so that rows that clash with one another are found.
    async fn rows(&mut self, file: usize, rows: Range<u64>) -> Result<Option<Fault>, Failure>;
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Unfit {
    pub(crate) rows: Vec<UnfitRow>,
    /// Why the first of them does not fit, without values.
    pub(crate) summary: String,
}

impl Unfit {
    /// What the engine is told, of `all` rows.
    pub(crate) fn failure(self, place: &dyn std::fmt::Display, all: u64) -> Failure {
        use lakeward_model::FailureKind::{NotDone, Refused};
        let count = self.rows.len();
        if count == 0 {
            let message = format!("{place}: refused the batch, and then none of its rows: to be tried again");
            return Failure::new(NotDone, message);
        }
        if count as u64 == all && count >= ALL_MEANS_THE_TABLE {
            let message = format!("{place}: not one of {all} rows fits the table: {}", self.summary);
            return Failure::new(Refused, message);
        }
        let message = format!("{place}: {count} of {all} rows do not fit the table: {}", self.summary);
        Failure::unfit(message, self.rows)
    }
}

/// Tries all rows. `files` are the files' indexes in the batch, and how many
/// rows they have.
pub(crate) async fn find(trial: &mut dyn Trial, files: &[(usize, u64)]) -> Result<Unfit, Failure> {
    let mut unfit = Unfit::default();
    for (position, (index, rows)) in files.iter().enumerate() {
        let mut next = 0;
        while next < *rows {
            let end = (*rows).min(next + WINDOW);
            narrow(trial, position, *index, next..end, &mut unfit).await?;
            if unfit.rows.len() > UNFIT_MAX {
                return Ok(unfit);
            }
            next = end;
        }
    }
    Ok(unfit)
}

async fn narrow(
    trial: &mut dyn Trial,
    position: usize,
    index: usize,
    window: Range<u64>,
    unfit: &mut Unfit,
) -> Result<(), Failure> {
    // In their order: the last is tried next.
    let mut parts = vec![window];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let Some(fault) = trial.rows(position, part.clone()).await? else { continue };
        if part.end - part.start == 1 {
            if unfit.rows.is_empty() {
                unfit.summary = fault.summary;
            }
            unfit.rows.push(UnfitRow { file: index, row: part.start, message: fault.message });
            if unfit.rows.len() > UNFIT_MAX {
                return Ok(());
            }
            continue;
        }
        match fault.row.filter(|row| part.contains(row)) {
            Some(row) => {
                let wary = part.end.min(row + 1 + WARY);
                parts.push(wary..part.end);
                parts.push(row + 1..wary);
                parts.push(row..row + 1);
                parts.push(part.start..row);
            }
            None => {
                let middle = part.start + (part.end - part.start) / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A table that takes no row in `bad`, and no row twice of the same key.
    struct Table {
        bad: BTreeSet<(usize, u64)>,
        keys: u64,
        held: BTreeSet<u64>,
        names_rows: bool,
    }

    #[async_trait::async_trait]
    impl Trial for Table {
        async fn rows(&mut self, file: usize, rows: Range<u64>) -> Result<Option<Fault>, Failure> {
            let mut held = self.held.clone();
            for row in rows {
                let clashes = self.keys > 0 && !held.insert((row * 7 + file as u64) % self.keys);
                if clashes || self.bad.contains(&(file, row)) {
                    let row = self.names_rows.then_some(row);
                    return Ok(Some(Fault { row, message: "no".into(), summary: "no".into() }));
                }
            }
            self.held = held;
            Ok(None)
        }
    }

    proptest! {
        #[test]
        fn all_of_them_are_found_and_no_other(
            bad in proptest::collection::btree_set((0_usize..3, 0_u64..300), 0..40),
            names_rows: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let mut table = Table { bad: bad.clone(), keys: 0, held: BTreeSet::new(), names_rows };
            let files = [(4, 300), (5, 0), (7, 300)];
            let found = runtime.block_on(find(&mut table, &files)).expect("nothing fails");
            let found: Vec<_> = found.rows.iter().map(|row| (row.file, row.row)).collect();
            let expect: Vec<_> = bad
                .iter()
                .filter(|(file, _)| *file != 1)
                .map(|(file, row)| ([4, 5, 7][*file], *row))
                .collect();
            prop_assert_eq!(found, expect);
        }
    }

    #[tokio::test]
    async fn of_rows_that_clash_the_first_stays() {
        for names_rows in [true, false] {
            let mut table = Table { bad: BTreeSet::new(), keys: 100, held: BTreeSet::new(), names_rows };
            let found = find(&mut table, &[(0, 250)]).await.expect("nothing fails");
            assert_eq!(found.rows.len(), 150);
            assert_eq!(found.rows[0].row, 100);
        }
    }

    #[tokio::test]
    async fn it_stops_looking_at_the_limit() {
        let bad = (0..20_000).map(|row| (0, row)).collect();
        let mut table = Table { bad, keys: 0, held: BTreeSet::new(), names_rows: true };
        let found = find(&mut table, &[(0, 20_000)]).await.expect("nothing fails");
        assert_eq!(found.rows.len(), UNFIT_MAX + 1);
    }

    #[test]
    fn a_table_that_takes_nothing_is_at_fault_itself() {
        let found = |count: u64| Unfit {
            rows: (0..count).map(|row| UnfitRow { file: 0, row, message: String::new() }).collect(),
            summary: String::from("no"),
        };
        let unfit = |count, all| found(count).failure(&"here", all).unfit.len();
        assert_eq!(unfit(1, 1), 1, "one bad record must not halt a quiet stream");
        assert_eq!(unfit(10, 11), 10);
        assert_eq!(unfit(10, 10), 0);
        assert_eq!(found(0).failure(&"here", 5).kind, lakeward_model::FailureKind::NotDone);
    }
}
