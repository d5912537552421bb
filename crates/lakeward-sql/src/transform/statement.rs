//! From the text of a statement to its levels, refusing what is not a
//! stateless SELECT.

use datafusion::sql::sqlparser::ast::{
    Distinct, ExcludeSelectItem, Expr, GroupByExpr, Ident, ObjectName, Query, RenameSelectItem, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakeward_columnar::transform::{Place, TransformError};

use super::levels::{Item, Level, Named, Wildcard};
use super::names::{Scope, resolve};
use super::text::{place, refuse, syntax};

/// The longest statement, in bytes.
const TEXT_MAX: usize = 64 * 1024;

/// The table.
const INPUT: &str = "input";

/// The levels of the one query that `sql` is, innermost first.
pub(super) fn read(sql: &str) -> Result<Vec<Level>, TransformError> {
    if sql.len() > TEXT_MAX {
        return Err(refuse(None, format!("the statement is longer than {TEXT_MAX} bytes")));
    }
    let statements = Parser::parse_sql(&GenericDialect {}, sql).map_err(|error| syntax(&error))?;
    let mut statements = statements.into_iter();
    let query = match (statements.next(), statements.next()) {
        (Some(Statement::Query(query)), None) => query,
        (None, _) => return Err(refuse(None, "there is no statement; write SELECT … FROM input")),
        (Some(_), Some(second)) => {
            return Err(refuse(place(&second), "only one statement is allowed; remove the second"));
        }
        (Some(other), None) => {
            return Err(refuse(place(&other), "only a SELECT is allowed: SELECT … FROM input"));
        }
    };
    Reader::default().query(&query).map(|chain| chain.levels)
}

/// Some levels, and what the last of them gives.
#[derive(Debug, Clone)]
struct Chain {
    levels: Vec<Level>,
    scope: Scope,
}

/// The CTEs that are in sight.
#[derive(Default)]
struct Reader {
    tables: Vec<(String, Chain)>,
    /// Calls of `random()` and `uuid()` so far: each has its own sequence.
    calls: u64,
}

impl Reader {
    fn query(&mut self, query: &Query) -> Result<Chain, TransformError> {
        let outside = self.tables.len();
        if let Some(with) = &query.with {
            if with.recursive {
                return Err(refuse(
                    place(with),
                    "WITH RECURSIVE is not possible: rows do not see each other",
                ));
            }
            for cte in &with.cte_tables {
                if !cte.alias.columns.is_empty() {
                    let at = place(&cte.alias);
                    return Err(refuse(at, "name the columns inside the CTE, with AS"));
                }
                let chain = self.query(&cte.query)?;
                self.tables.push((cte.alias.name.value.clone(), chain));
            }
        }
        refuse_clauses(query)?;
        let chain = match &*query.body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(inner) => self.query(inner),
            SetExpr::SetOperation { op, right, .. } => Err(refuse(
                place(&**right),
                format!(
                    "{op} is not possible: one record gives its rows in one SELECT; use CASE, or two pipelines on one stream"
                ),
            )),
            other => Err(refuse(place(other), "only a SELECT is allowed: SELECT … FROM input")),
        };
        self.tables.truncate(outside);
        chain
    }

    fn select(&mut self, select: &Select) -> Result<Chain, TransformError> {
        refuse_select(select)?;
        let (mut levels, mut scope) = match &select.from[..] {
            [] => return Err(refuse(place(select), "FROM is missing: SELECT … FROM input")),
            [table] => self.table(table)?,
            [_, second, ..] => return Err(refuse(place(&second.relation), JOIN)),
        };
        let mut items = Vec::new();
        for item in &select.projection {
            items.push(self.item(item, &scope)?);
        }
        let mut level = Level { items, filter: select.selection.clone(), unnest: None };
        resolve(&mut level, &scope, &mut self.calls)?;
        refuse_twice(&level)?;
        scope = scope.after(&level);
        levels.push(level);
        Ok(Chain { levels, scope })
    }

    fn table(&mut self, table: &TableWithJoins) -> Result<(Vec<Level>, Scope), TransformError> {
        if let Some(join) = table.joins.first() {
            return Err(refuse(place(&join.relation), JOIN));
        }
        match &table.relation {
            TableFactor::Table {
                name,
                alias,
                args: None,
                version: None,
                with_ordinality: false,
                json_path: None,
                sample: None,
                ..
            } => {
                let called = alias.as_ref().map(|alias| alias.name.value.clone());
                let written = name.to_string();
                let known = self.tables.iter().rev().find(|(table, _)| *table == written);
                if let Some((table, chain)) = known {
                    let scope = chain.scope.called(Some(called.unwrap_or_else(|| table.clone())));
                    return Ok((chain.levels.clone(), scope));
                }
                if written.eq_ignore_ascii_case(INPUT) {
                    return Ok((Vec::new(), Scope::input(called.unwrap_or(written))));
                }
                Err(refuse(
                    place(name),
                    format!("there is no table `{written}`; the records are the table `input`: FROM input"),
                ))
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let chain = self.query(subquery)?;
                let scope = chain.scope.called(alias.as_ref().map(|alias| alias.name.value.clone()));
                Ok((chain.levels, scope))
            }
            TableFactor::UNNEST { .. } | TableFactor::Table { .. } | TableFactor::Function { .. } => {
                Err(refuse(
                    place(&table.relation),
                    "only `input` and subqueries can stand in FROM; to make rows of a list, write unnest in the SELECT list: SELECT unnest(items) AS item FROM input",
                ))
            }
            other => Err(refuse(place(other), "only `input` and subqueries can stand in FROM")),
        }
    }

    fn item(&self, item: &SelectItem, scope: &Scope) -> Result<Item, TransformError> {
        match item {
            SelectItem::Wildcard(options) => wildcard(options).map(Item::All),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                if scope.is_called(&name.to_string()) {
                    return wildcard(options).map(Item::All);
                }
                Err(refuse(place(name), format!("`{name}.*` is not possible; name the fields: {name}.field")))
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                Ok(Item::Named(Named { name: alias.value.clone(), expr: expr.clone(), place: place(expr) }))
            }
            SelectItem::UnnamedExpr(expr) => match natural_name(expr) {
                Some(name) => Ok(Item::Named(Named { name, expr: expr.clone(), place: place(expr) })),
                None => {
                    Err(refuse(place(expr), format!("this column has no name; write `{expr} AS some_name`")))
                }
            },
            other => Err(refuse(place(other), format!("`{other}` is not possible here"))),
        }
    }
}

const JOIN: &str = "joins are not possible: a transform sees one record at a time (to make rows of a list, write unnest in the SELECT list)";

/// Refuses what stands around a SELECT.
fn refuse_clauses(query: &Query) -> Result<(), TransformError> {
    let why = "a transform is applied to each record by itself, in the order of the stream";
    if let Some(order) = &query.order_by {
        return Err(refuse(place(order), format!("ORDER BY is not possible: {why}")));
    }
    if let Some(limit) = &query.limit_clause {
        return Err(refuse(place(limit), format!("LIMIT and OFFSET are not possible: {why}; use WHERE")));
    }
    if let Some(fetch) = &query.fetch {
        return Err(refuse(place(fetch), format!("FETCH is not possible: {why}; use WHERE")));
    }
    let is_plain = query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    if !is_plain {
        return Err(refuse(None, "only SELECT … FROM … WHERE … is possible; remove what follows"));
    }
    Ok(())
}

/// Refuses what a SELECT may not have.
fn refuse_select(select: &Select) -> Result<(), TransformError> {
    let at = place(select);
    let rows = "is not possible: a transform sees one record at a time";
    if let Some(Distinct::Distinct | Distinct::On(_)) = &select.distinct {
        return Err(refuse(at, format!("DISTINCT {rows}; use the pipeline's `dedup`")));
    }
    match &select.group_by {
        GroupByExpr::Expressions(exprs, _) if exprs.is_empty() => {}
        GroupByExpr::Expressions(exprs, _) => {
            return Err(refuse(place(&exprs[0]).or(at), format!("GROUP BY {rows}")));
        }
        GroupByExpr::All(_) => return Err(refuse(at, format!("GROUP BY {rows}"))),
    }
    if let Some(having) = &select.having {
        return Err(refuse(place(having), format!("HAVING {rows}; use WHERE")));
    }
    if let Some(qualify) = &select.qualify {
        return Err(refuse(place(qualify), format!("QUALIFY {rows}; use WHERE")));
    }
    if let Some(Ident { .. }) = select.named_window.first().map(|window| &window.0) {
        return Err(refuse(at, format!("WINDOW {rows}")));
    }
    if select.top.is_some() {
        return Err(refuse(at, format!("TOP {rows}; use WHERE")));
    }
    let is_plain = select.exclude.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.value_table_mode.is_none()
        && select.select_modifiers.is_none();
    if !is_plain {
        return Err(refuse(at, "only SELECT … FROM … WHERE … is possible"));
    }
    if select.projection.is_empty() {
        return Err(refuse(at, "SELECT names no columns; write SELECT * FROM input for all"));
    }
    Ok(())
}

fn wildcard(options: &WildcardAdditionalOptions) -> Result<Wildcard, TransformError> {
    let mut wildcard = Wildcard::default();
    if let Some(ilike) = &options.opt_ilike {
        return Err(refuse(place(ilike), "* ILIKE is not possible; name the columns"));
    }
    if options.opt_alias.is_some() {
        return Err(refuse(place(options), "`*` cannot have a name"));
    }
    match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => wildcard.without.push(last(name)),
        Some(ExcludeSelectItem::Multiple(names)) => wildcard.without.extend(names.iter().map(last)),
        None => {}
    }
    if let Some(except) = &options.opt_except {
        wildcard.without.push(except.first_element.value.clone());
        wildcard.without.extend(except.additional_elements.iter().map(|name| name.value.clone()));
    }
    for item in options.opt_replace.iter().flat_map(|replace| &replace.items) {
        wildcard.replaced.push(Named {
            name: item.column_name.value.clone(),
            expr: item.expr.clone(),
            place: place(&item.expr),
        });
    }
    match &options.opt_rename {
        Some(RenameSelectItem::Single(pair)) => {
            wildcard.renamed.push((pair.ident.value.clone(), pair.alias.value.clone()));
        }
        Some(RenameSelectItem::Multiple(pairs)) => {
            let pairs = pairs.iter().map(|pair| (pair.ident.value.clone(), pair.alias.value.clone()));
            wildcard.renamed.extend(pairs);
        }
        None => {}
    }
    Ok(wildcard)
}

fn last(name: &ObjectName) -> String {
    match name.0.last().and_then(|part| part.as_ident()) {
        Some(ident) => ident.value.clone(),
        None => name.to_string(),
    }
}

/// The name that an expression has without AS, as PostgreSQL has it: a
/// column's, a field's, a function's.
fn natural_name(expr: &Expr) -> Option<String> {
    use datafusion::sql::sqlparser::ast::{AccessExpr, Subscript, Value};
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let named = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(name))
                | AccessExpr::Subscript(Subscript::Index { index: Expr::Identifier(name) })
                    if name.quote_style.is_some() || matches!(access, AccessExpr::Dot(_)) =>
                {
                    Some(name.value.clone())
                }
                AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
                    Value::SingleQuotedString(name) => Some(name.clone()),
                    _ => None,
                },
                _ => None,
            });
            named.or_else(|| natural_name(root))
        }
        Expr::Function(function) => Some(function.name.to_string().to_lowercase()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => natural_name(expr),
        Expr::Case { .. } => Some(String::from("case")),
        Expr::Extract { .. } => Some(String::from("extract")),
        Expr::Substring { .. } => Some(String::from("substring")),
        Expr::Trim { .. } => Some(String::from("trim")),
        _ => None,
    }
}

/// Refuses two expressions with one name.
fn refuse_twice(level: &Level) -> Result<(), TransformError> {
    let mut seen: Vec<(&str, Option<Place>)> = Vec::new();
    for item in &level.items {
        let Item::Named(named) = item else { continue };
        if seen.iter().any(|(name, _)| *name == named.name) {
            return Err(refuse(
                named.place,
                format!("there are two columns `{0}`; give one another name: `… AS {0}_2`", named.name),
            ));
        }
        seen.push((&named.name, named.place));
    }
    if level.items.iter().filter(|item| matches!(item, Item::All(_))).count() > 1 {
        return Err(refuse(None, "`*` stands twice in one SELECT; once is enough"));
    }
    Ok(())
}
