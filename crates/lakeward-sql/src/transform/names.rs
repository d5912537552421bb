//! What the names in a SELECT mean.
//!
//! Afterwards every name in an expression is a plain column of the level's
//! input, fields are subscripts (`a.b` is `a['b']`), and functions are in lower
//! case and known.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Spanned, Subscript, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use lakeward_columnar::transform::{Place, TransformError};

use super::functions;
use super::levels::{Item, Level, ROW, SUB, UNNESTED};
use super::text::{place, refuse, similar, span_place};

/// How deep expressions may nest: planning and evaluation descend on the
/// stack.
const DEPTH_MAX: usize = 200;

/// What a level can see.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The name of the table that the level reads.
    called: Option<String>,
    /// Whether there may be more columns than `names`: those of the input.
    open: bool,
    names: Vec<String>,
    /// Columns of the input that a `*` left out.
    gone: Vec<String>,
}

impl Scope {
    /// The input, of which nothing is known.
    pub(super) fn input(called: String) -> Self {
        Self { called: Some(called), open: true, names: Vec::new(), gone: Vec::new() }
    }

    /// The same under another name.
    pub(super) fn called(&self, called: Option<String>) -> Self {
        Self { called, ..self.clone() }
    }

    /// Whether this is the table's name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.called.as_ref().is_some_and(|called| called.eq_ignore_ascii_case(name))
    }

    /// What `level`, which reads this, gives.
    pub(super) fn after(&self, level: &Level) -> Self {
        let mut after = Self { called: None, open: false, names: Vec::new(), gone: Vec::new() };
        for item in &level.items {
            match item {
                Item::Named(named) => after.names.push(named.name.clone()),
                Item::All(wildcard) => {
                    let lost = |name: &String| {
                        wildcard.without.contains(name)
                            || wildcard.renamed.iter().any(|(from, _)| from == name)
                    };
                    after.open = self.open;
                    let kept = self.names.iter().filter(|name| !lost(name) && !level.is_named(name));
                    after.names.extend(kept.cloned());
                    after.names.extend(wildcard.renamed.iter().map(|(_, to)| to.clone()));
                    after.gone.extend(self.gone.iter().cloned());
                    after.gone.extend(wildcard.without.iter().cloned());
                    after.gone.extend(wildcard.renamed.iter().map(|(from, _)| from.clone()));
                }
            }
        }
        after
    }

    /// Refuses a column that cannot be there.
    fn check(&self, name: &str, at: Option<Place>, level: &[(String, bool)]) -> Result<(), TransformError> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        let is_sibling = level.iter().any(|(sibling, itself)| sibling == name && !itself);
        if self.open && !self.gone.iter().any(|gone| gone == name) {
            return Ok(());
        }
        let hint = if is_sibling {
            String::from("; it is made in this SELECT: use it in a SELECT around this one")
        } else {
            match similar(name, self.names.iter().map(String::as_str)) {
                Some(known) => format!("; did you mean `{known}`?"),
                None if self.names.is_empty() => String::from("; the subquery leaves it out"),
                None => format!("; the subquery has {}", list(&self.names)),
            }
        };
        Err(refuse(at, format!("there is no column `{name}`{hint}")))
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > 12 { ", …" } else { "" };
    shown.join(", ") + more
}

/// Resolves all names of a level that reads `scope`.
pub(super) fn resolve(level: &mut Level, scope: &Scope, calls: &mut u64) -> Result<(), TransformError> {
    // For each named expression whether it reads a column of its own name.
    let siblings: Vec<(String, bool)> = level
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Named(named) => Some((named.name.clone(), reads_itself(&named.expr, &named.name))),
            Item::All(_) => None,
        })
        .collect();
    let mut names =
        Names { scope, siblings: &siblings, own: None, calls, unnest: None, allows: true, depth: 0 };
    for item in &mut level.items {
        match item {
            Item::Named(named) => {
                names.own = Some(named.name.clone());
                names.run(&mut named.expr)?;
            }
            Item::All(wildcard) => {
                names.own = None;
                for named in &mut wildcard.replaced {
                    names.run(&mut named.expr)?;
                }
            }
        }
    }
    names.own = None;
    names.allows = false;
    if let Some(filter) = &mut level.filter {
        names.run(filter)?;
    }
    level.unnest = names.unnest.map(|(expr, _)| expr);
    Ok(())
}

fn reads_itself(expr: &Expr, name: &str) -> bool {
    let mut found = std::collections::BTreeSet::new();
    super::levels::columns_of(expr, &mut found);
    let mut compound = false;
    let _: ControlFlow<()> = datafusion::sql::sqlparser::ast::visit_expressions(expr, |part| {
        if let Expr::CompoundIdentifier(parts) = part {
            compound |= parts.iter().any(|part| part.value == name);
        }
        ControlFlow::Continue(())
    });
    compound || found.contains(name)
}

/// Walks an expression.
struct Names<'a> {
    scope: &'a Scope,
    siblings: &'a [(String, bool)],
    /// The name of the expression that is being read.
    own: Option<String>,
    calls: &'a mut u64,
    unnest: Option<(Expr, Option<Place>)>,
    /// Whether `unnest` may stand here.
    allows: bool,
    depth: usize,
}

impl VisitorMut for Names<'_> {
    type Break = TransformError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<TransformError> {
        self.depth += 1;
        match self.enter(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<TransformError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Names<'_> {
    fn run(&mut self, expr: &mut Expr) -> Result<(), TransformError> {
        match expr.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn enter(&mut self, expr: &mut Expr) -> Result<(), TransformError> {
        if self.depth + spine(expr) > DEPTH_MAX {
            let message = "this expression nests too deep; use IN (…), concat(…) or a subquery";
            return Err(refuse(place(expr), message));
        }
        match expr {
            Expr::Identifier(name) => self.column(name),
            Expr::CompoundIdentifier(names) => {
                let names = std::mem::take(names);
                *expr = self.path(names)?;
                Ok(())
            }
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter_mut().try_for_each(subscript),
            Expr::Function(function) => {
                if let Some(argument) = self.function(function)? {
                    let span = function.span();
                    self.unnest(argument, span_place(span))?;
                    *expr = Expr::Identifier(Ident { value: UNNESTED.into(), quote_style: None, span });
                }
                Ok(())
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => Err(refuse(
                place(expr),
                "subqueries can stand in FROM only: a transform sees one record at a time",
            )),
            Expr::InUnnest { .. } => {
                Err(refuse(place(expr), "IN UNNEST is not possible; use array_has(list, value)"))
            }
            Expr::Lambda(_) => Err(refuse(place(expr), "lambdas are not possible; use unnest")),
            Expr::Value(ValueWithSpan { value: Value::Placeholder(text), span }) => {
                Err(refuse(span_place(*span), format!("there are no parameters to put in for `{text}`")))
            }
            _ => Ok(()),
        }
    }

    fn column(&self, name: &Ident) -> Result<(), TransformError> {
        let at = span_place(name.span);
        if name.value.starts_with('@') && name.quote_style.is_none() {
            return Err(refuse(at, format!("there are no variables like `{}`", name.value)));
        }
        if [UNNESTED, ROW, SUB].contains(&name.value.as_str()) {
            return Ok(());
        }
        let is_own = self.own.as_ref() == Some(&name.value);
        let is_known = self.scope.names.contains(&name.value);
        let new = self.siblings.iter().any(|(sibling, itself)| *sibling == name.value && !itself);
        if new && !is_own && !is_known && self.scope.open {
            let table = self.scope.called.as_deref().unwrap_or("the_subquery");
            return Err(refuse(
                at,
                format!(
                    "`{0}` is made in this SELECT and cannot be used in it: use it in a SELECT around this one (SELECT … FROM (SELECT *, … AS {0} FROM …)); if you mean the record's own field, write {table}.{0}",
                    name.value
                ),
            ));
        }
        self.scope.check(&name.value, at, self.siblings)
    }

    /// `table.column.field…`, with or without the table.
    fn path(&self, mut names: Vec<Ident>) -> Result<Expr, TransformError> {
        let is_table = names.len() > 1 && self.scope.is_called(&names[0].value);
        if is_table {
            names.remove(0);
        }
        let mut names = names.into_iter();
        let Some(column) = names.next() else { return Err(refuse(None, "a name is empty")) };
        if is_table {
            self.scope.check(&column.value, span_place(column.span), &[])?;
        } else {
            self.column(&column)?;
        }
        let access_chain: Vec<_> = names.map(|name| field(name.value, name.span)).collect();
        let root = Expr::Identifier(column);
        Ok(if access_chain.is_empty() {
            root
        } else {
            Expr::CompoundFieldAccess { root: Box::new(root), access_chain }
        })
    }

    /// Checks a call; the argument, if it is `unnest`.
    fn function(&mut self, function: &mut Function) -> Result<Option<Expr>, TransformError> {
        let at = place(function);
        let mut name = function.name.to_string().to_lowercase();
        if function.over.is_some() {
            return Err(refuse(
                at,
                "window functions are not possible: a transform sees one record at a time",
            ));
        }
        if name == "unnest" {
            return match std::mem::replace(&mut function.args, FunctionArguments::None) {
                FunctionArguments::List(FunctionArgumentList { mut args, .. }) if args.len() == 1 => {
                    match args.remove(0) {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Ok(Some(argument)),
                        _ => Err(refuse(at, "unnest takes one list")),
                    }
                }
                _ => Err(refuse(at, "unnest takes one list; nest SELECTs for several")),
            };
        }
        if name == "gen_random_uuid" {
            name = String::from("uuid");
        }
        functions::check(&name, function, at)?;
        if name == "random" || name == "uuid" {
            *self.calls += 1;
            function.args = positions(*self.calls);
        }
        let span = function.name.span();
        function.name = ObjectName::from(vec![Ident { value: name, quote_style: None, span }]);
        Ok(None)
    }

    fn unnest(&mut self, mut argument: Expr, at: Option<Place>) -> Result<(), TransformError> {
        if !self.allows {
            return Err(refuse(
                at,
                "unnest can stand in the SELECT list only: unnest in a subquery, and filter around it: SELECT … FROM (SELECT unnest(items) AS item FROM input) WHERE …",
            ));
        }
        let before = std::mem::replace(&mut self.allows, false);
        let own = self.own.take();
        self.run(&mut argument)?;
        self.own = own;
        self.allows = before;
        match &self.unnest {
            Some((known, _)) if known.to_string() != argument.to_string() => Err(refuse(
                at,
                "unbalanced unnest: a second unnest in one SELECT would pad lists of different lengths with NULLs; unnest one list in a subquery, and the other around it: SELECT *, unnest(b) AS b1 FROM (SELECT *, unnest(a) AS a1 FROM input)",
            )),
            Some(_) => Ok(()),
            None => {
                self.unnest = Some((argument, at));
                Ok(())
            }
        }
    }
}

/// How many binary operators lean to the left.
fn spine(mut expr: &Expr) -> usize {
    let mut depth = 0;
    while let Expr::BinaryOp { left, .. } = expr {
        depth += 1;
        expr = left;
    }
    depth
}

/// A field as a subscript.
fn field(name: String, span: Span) -> AccessExpr {
    let value = ValueWithSpan { value: Value::SingleQuotedString(name), span };
    AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) })
}

/// `.field` and `["field"]` become `['field']`.
fn subscript(access: &mut AccessExpr) -> Result<(), TransformError> {
    match access {
        AccessExpr::Dot(Expr::Identifier(name)) => *access = field(name.value.clone(), name.span),
        AccessExpr::Subscript(Subscript::Index { index: Expr::Identifier(name) })
            if name.quote_style == Some('"') =>
        {
            *access = field(name.value.clone(), name.span);
        }
        AccessExpr::Dot(other) => {
            return Err(refuse(place(other), format!("`.{other}` is not a field; write ['name']")));
        }
        AccessExpr::Subscript(_) => {}
    }
    Ok(())
}

/// The arguments that make a call of `random()` or `uuid()` its own.
fn positions(call: u64) -> FunctionArguments {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let number = Value::Number(call.to_string(), false);
    let args = vec![
        argument(Expr::Identifier(Ident::new(ROW))),
        argument(Expr::Identifier(Ident::new(SUB))),
        argument(Expr::Value(number.with_empty_span())),
    ];
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}
