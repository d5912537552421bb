//! A statement as a straight line of SELECTs, each over the one before.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, visit_expressions};
use lakeward_columnar::transform::Place;

/// The column that stands for what `unnest` gives. No JSON key of a record is
/// called so in earnest.
pub(super) const UNNESTED: &str = "unnest(…)";

/// The hidden column with the input row of each row, for `random()`.
pub(super) const ROW: &str = "\u{0}row";

/// The hidden column that tells the rows of one input row apart.
pub(super) const SUB: &str = "\u{0}sub";

/// One SELECT.
#[derive(Debug, Clone)]
pub(super) struct Level {
    /// What it gives.
    pub(super) items: Vec<Item>,
    /// WHERE.
    pub(super) filter: Option<Expr>,
    /// What `unnest` is applied to.
    pub(super) unnest: Option<Expr>,
}

/// An entry of the SELECT list.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few, and most are the large one")]
pub(super) enum Item {
    /// `*`
    All(Wildcard),
    /// An expression with its name.
    Named(Named),
}

/// What a `*` leaves out or changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Wildcard {
    /// EXCLUDE
    pub(super) without: Vec<String>,
    /// REPLACE
    pub(super) replaced: Vec<Named>,
    /// RENAME: from, to.
    pub(super) renamed: Vec<(String, String)>,
}

/// An expression with its name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The output column.
    pub(super) name: String,
    /// Its value. All names in it are plain columns of the level's input.
    pub(super) expr: Expr,
    /// Where it stands.
    pub(super) place: Option<Place>,
}

impl Level {
    /// The names that are given to expressions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter_map(|item| match item {
            Item::Named(named) => Some(named.name.as_str()),
            Item::All(_) => None,
        })
    }

    /// All its expressions.
    pub(super) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.items
            .iter()
            .flat_map(|item| match item {
                Item::Named(named) => std::slice::from_ref(named),
                Item::All(wildcard) => &wildcard.replaced,
            })
            .map(|named| &named.expr)
            .chain(&self.filter)
            .chain(&self.unnest)
    }

    /// Whether an expression of this level has that name, so that a `*` leaves
    /// it out.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.names().any(|named| named == name)
    }
}

/// The columns that an expression reads.
pub(super) fn columns_of(expr: &Expr, into: &mut BTreeSet<String>) {
    let _: ControlFlow<()> = visit_expressions(expr, |part| {
        if let Expr::Identifier(Ident { value, .. }) = part {
            into.insert(value.clone());
        }
        ControlFlow::Continue(())
    });
}

/// The columns of the input that all levels together read, without knowing
/// them; `None` is all.
pub(super) fn reads(levels: &[Level]) -> Option<BTreeSet<String>> {
    // `None`: every column of the level's output.
    let mut wanted: Option<BTreeSet<String>> = None;
    for level in levels.iter().rev() {
        wanted = level_reads(level, wanted.as_ref());
    }
    wanted
}

/// What a level reads of its input if `wanted` of its output is needed.
fn level_reads(level: &Level, wanted: Option<&BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for item in &level.items {
        match item {
            Item::Named(named) => {
                if wanted.is_none_or(|wanted| wanted.contains(&named.name)) {
                    columns_of(&named.expr, &mut found);
                }
            }
            Item::All(wildcard) => {
                for name in wanted?.iter().filter(|name| !level.is_named(name)) {
                    found.insert(name.clone());
                    found.extend(
                        wildcard.renamed.iter().filter(|(_, to)| to == name).map(|(from, _)| from.clone()),
                    );
                    for named in wildcard.replaced.iter().filter(|named| named.name == *name) {
                        columns_of(&named.expr, &mut found);
                    }
                }
            }
        }
    }
    for expr in level.filter.iter().chain(&level.unnest) {
        columns_of(expr, &mut found);
    }
    for hidden in [UNNESTED, ROW, SUB] {
        found.remove(hidden);
    }
    Some(found)
}

/// Whether a statement asks for the time or for chance.
pub(super) fn is_pinned(levels: &[Level]) -> bool {
    let asks = |expr: &Expr| {
        visit_expressions(expr, |part| match part {
            Expr::Function(call) if PINNED.contains(&call.name.to_string().as_str()) => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })
        .is_break()
    };
    levels.iter().any(|level| level.exprs().any(asks))
}

/// The functions that give what the plan pins.
const PINNED: &[&str] = &["now", "current_timestamp", "current_date", "today", "random", "uuid"];
