//! Firehose's MetadataExtraction processor: a jq expression that gives an
//! object of partition keys.
//!
//! jq can run for ever, can build values so deep that they end the process, and
//! can look at its surroundings; here it may do none of these. What is left of
//! its means to loop goes over the record's own values (`.[]`, `..`, `map` and so
//! on) and does not feed on what it made: definitions, `reduce`, assignments and
//! the like are refused, as are functions that read the clock, the machine's
//! time zone or its environment. An expression can still be written to make
//! very long texts (`. + . | . + . | …`): it is configuration, and is trusted
//! that far.

use std::fmt::{self, Write as _};

use jaq_core::data::JustLut;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, bome, v};
use jaq_core::path::Part;
use jaq_core::{Compiler, Ctx, Error, Filter, Vars, ops, unwrap_valr};
use jaq_json::{Map, Val};
use jaq_std::ValT as _;

use super::KEYS_MAX;

/// Longest expression, in characters (Firehose's limit for a processor's
/// parameter).
const CHARACTERS_MAX: usize = 5120;

/// What the parser needs for the longest expression, many times over.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// Deepest nesting of an expression, pipes counted too.
const DEPTH_MAX: usize = 100;

/// Longest part of a message that comes from jq, in bytes.
const MESSAGE_MAX: usize = 300;

/// Functions that are refused: they need not end, build deep values, or do not
/// give the same twice.
const REFUSED: [&str; 21] = [
    "repeat",
    "while",
    "until",
    "range",
    "combinations",
    "walk",
    "getpath",
    "setpath",
    "delpaths",
    "del",
    "now",
    "env",
    "localtime",
    "strflocaltime",
    "halt",
    "halt_error",
    "debug",
    "stderr",
    "input",
    "inputs",
    "pick",
];

/// A compiled expression.
pub(super) struct Query {
    filter: Filter<JustLut<Val>>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").finish_non_exhaustive()
    }
}

/// What an expression gave for a record.
#[derive(Debug)]
pub(super) struct Found(Val);

impl Found {
    /// The value of a key; `None` if it is missing or null.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let value = match &self.0 {
            Val::Obj(object) => object.get(&Val::utf8_str(name.as_bytes().to_vec())),
            _ => None,
        };
        let kind = match value {
            None | Some(Val::Null) => return Ok(None),
            Some(text) if text.is_utf8_str() => {
                let bytes = text.as_bytes().unwrap_or_default();
                return Ok(Some(String::from_utf8_lossy(bytes).into_owned()));
            }
            Some(Val::Num(_)) => "a number",
            Some(Val::Bool(_)) => "a boolean",
            Some(Val::Arr(_)) => "an array",
            Some(Val::Obj(_)) => "an object",
            Some(Val::BStr(_) | Val::TStr(_)) => "bytes",
        };
        Err(format!("partitionKeys values must be strings: `{name}` is {kind} (`tostring` makes a string)"))
    }
}

impl Query {
    /// Compiles an expression; the error is for whoever wrote it.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        if text.chars().count() > CHARACTERS_MAX {
            return Err(format!("a jq expression has at most {CHARACTERS_MAX} characters"));
        }
        // The parser goes as deep as the text does, before its depth can be
        // looked at.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
            let parser = thread.spawn_scoped(scope, || Self::compile_deep(text));
            let parser = parser.map_err(|error| format!("there is no thread to read it: {error}"))?;
            parser.join().unwrap_or_else(|_| Err(String::from("this is not a jq expression")))
        })
    }

    fn compile_deep(text: &str) -> Result<Self, String> {
        let mut term = load::parse(text, |parser| parser.term()).ok_or_else(|| syntax(text))?;
        Guard::default().term(&mut term)?;
        // A string times a number from a record could take any memory.
        let times = load::parse(
            "def lakeward_times(f; g): f as $l | g as $r | \
             if ($l | isstring) or ($r | isstring) then error(\"a string cannot be multiplied\") else $l * $r end;",
            |parser| parser.defs(),
        )
        .expect("our own definition is valid");
        let main = Def { name: "lakeward_main", args: Vec::new(), body: term };
        let prelude = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let mut definitions: Vec<Def<&str>> = Vec::new();
        prelude.chain(times).for_each(|definition| definitions.push(definition));
        definitions.push(main);
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code: "lakeward_main", path: () })
            .map_err(|_| String::from("this is not a jq expression"))?;
        let filter = Compiler::default().with_funs(functions()).compile(modules).map_err(|errors| {
            let unknown: Vec<_> = errors
                .into_iter()
                .flat_map(|(_, errors)| errors)
                .map(|(name, kind)| format!("there is no {} `{name}`", kind.as_str()))
                .collect();
            unknown.join("; ")
        })?;
        Ok(Self { filter })
    }

    /// Runs it for one record.
    pub(super) fn run(&self, record: &[u8]) -> Result<Found, String> {
        let input: Val = serde_json::from_slice(record)
            .map_err(|error| format!("the record is not one JSON value: {error}"))?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut outputs = self.filter.id.run((context, input)).map(unwrap_valr);
        let first = match outputs.next() {
            None => return Err(String::from("the jq expression gave nothing for the record")),
            Some(Err(error)) => return Err(format!("the jq expression failed: {}", Short(&error))),
            Some(Ok(value)) => value,
        };
        match &first {
            Val::Obj(object) => too_many(object)?,
            _ => return Err(String::from("the jq expression gave something that is not an object")),
        }
        if outputs.next().is_some() {
            return Err(String::from("the jq expression gave more than one value for the record"));
        }
        Ok(Found(first))
    }
}

fn too_many(object: &Map) -> Result<(), String> {
    if object.len() > KEYS_MAX {
        return Err(format!("the jq expression gave more than {KEYS_MAX} keys"));
    }
    Ok(())
}

/// jq's functions, of which the one that parses JSON is ours: the library's
/// own goes as deep as the text does, and would end the process.
fn functions() -> impl Iterator<Item = Fun<JustLut<Val>>> {
    let from_json: Fun<JustLut<Val>> = jaq_core::native::run(("fromjson", v(0), |cv| {
        bome(cv.1.try_as_utf8_bytes_owned().and_then(|text| {
            serde_json::from_slice(&text)
                .map_err(|error| Error::str(format_args!("cannot parse as JSON: {error}")))
        }))
    }));
    let theirs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    theirs.filter(|(name, ..)| *name != "fromjson").chain([from_json])
}

/// Where an expression stops being one.
fn syntax(text: &str) -> String {
    let arena = Arena::default();
    let Err(errors) = Loader::new([]).load(&arena, File { code: text, path: () }) else {
        return String::from("definitions alone are not an expression");
    };
    let place = |rest: &str| {
        let start = (rest.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
        let before = start.and_then(|start| text.get(..start)).unwrap_or(text);
        format!("character {}", before.chars().count() + 1)
    };
    let first = errors.into_iter().next().map(|(_, error)| error);
    match first {
        Some(load::Error::Lex(errors)) => match errors.first() {
            Some((expected, rest)) => format!("expected {} at {}", expected.as_str(), place(rest)),
            None => String::from("this is not a jq expression"),
        },
        Some(load::Error::Parse(errors)) => match errors.first() {
            Some((expected, "")) => {
                format!("expected {} at the end", expected.as_str())
            }
            Some((expected, found)) => format!("expected {} at {}", expected.as_str(), place(found)),
            None => String::from("this is not a jq expression"),
        },
        _ => String::from("this is not a jq expression"),
    }
}

/// An error's text, cut: it may quote a whole record.
struct Short<'a, T>(&'a T);

impl<T: fmt::Display> fmt::Display for Short<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Capped(String::new());
        // An error only says that the text was cut.
        let cut = write!(text, "{}", self.0).is_err();
        f.write_str(&text.0)?;
        if cut { f.write_str("…") } else { Ok(()) }
    }
}

struct Capped(String);

impl fmt::Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() + c.len_utf8() > MESSAGE_MAX {
                return Err(fmt::Error);
            }
            self.0.push(c);
        }
        Ok(())
    }
}

fn refused(what: &str) -> Result<(), String> {
    Err(format!("`{what}` cannot be used: a key must follow from the record, and in finite time"))
}

/// Looks at every part of an expression for what is refused.
#[derive(Default)]
struct Guard {
    depth: usize,
}

impl Guard {
    fn term(&mut self, term: &mut Term<&str>) -> Result<(), String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("the jq expression is nested more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let done = self.parts(term);
        self.depth -= 1;
        done
    }

    fn parts(&mut self, term: &mut Term<&str>) -> Result<(), String> {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Var(_) | Term::Break(_) => Ok(()),
            Term::Str(_, parts) => parts.iter_mut().try_for_each(|part| match part {
                StrPart::Term(term) => self.term(term),
                StrPart::Str(_) | StrPart::Char(_) => Ok(()),
            }),
            Term::Arr(inner) => inner.iter_mut().try_for_each(|term| self.term(term)),
            Term::Obj(entries) => entries.iter_mut().try_for_each(|(key, value)| {
                self.term(key)?;
                value.iter_mut().try_for_each(|term| self.term(term))
            }),
            Term::Neg(inner) | Term::Label(_, inner) => self.term(inner),
            Term::BinOp(..) => self.operation(term),
            Term::Fold(name, ..) => refused(name),
            Term::Def(..) => refused("def"),
            Term::TryCatch(inner, catch) => {
                self.term(inner)?;
                catch.iter_mut().try_for_each(|term| self.term(term))
            }
            Term::IfThenElse(branches, otherwise) => {
                for (condition, then) in branches {
                    self.term(condition)?;
                    self.term(then)?;
                }
                otherwise.iter_mut().try_for_each(|term| self.term(term))
            }
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Path(inner, path) => {
                self.term(inner)?;
                path.0.iter_mut().try_for_each(|(part, _)| match part {
                    Part::Index(index) => self.term(index),
                    Part::Range(from, to) => from.iter_mut().chain(to).try_for_each(|term| self.term(term)),
                })
            }
        }
    }

    fn call(&mut self, name: &str, arguments: &mut [Term<&str>]) -> Result<(), String> {
        if REFUSED.contains(&name) || (name == "recurse" && !arguments.is_empty()) {
            return refused(name);
        }
        arguments.iter_mut().try_for_each(|term| self.term(term))
    }

    fn operation(&mut self, term: &mut Term<&str>) -> Result<(), String> {
        let Term::BinOp(left, operator, right) = term else { return Ok(()) };
        self.term(left)?;
        self.term(right)?;
        match operator {
            BinaryOp::Pipe(Some(pattern)) => self.pattern(pattern),
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                refused("=")
            }
            BinaryOp::Math(ops::Math::Mul) => {
                let sides = vec![std::mem::take(&mut **left), std::mem::take(&mut **right)];
                *term = Term::Call("lakeward_times", sides);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn pattern(&mut self, pattern: &mut Pattern<&str>) -> Result<(), String> {
        match pattern {
            Pattern::Var(_) => Ok(()),
            Pattern::Arr(patterns) => patterns.iter_mut().try_for_each(|pattern| self.pattern(pattern)),
            Pattern::Obj(entries) => entries.iter_mut().try_for_each(|(key, pattern)| {
                self.term(key)?;
                self.pattern(pattern)
            }),
        }
    }
}
