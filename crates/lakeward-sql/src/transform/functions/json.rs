//! JSON text to columns: `json_get…`, `json_array`, `json_entries`.
//!
//! What is not JSON, or has nothing at the path, is NULL. The first of two
//! equal keys counts, as in the decoder.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::access::json_field;
use crate::transform::expressions::type_name;

/// A step into JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// The value of this key.
    Key(&'a str),
    /// This element of an array, from 0; `None` is never there.
    Element(Option<usize>),
}

/// The functions.
pub(super) fn all() -> Vec<ScalarUDF> {
    let gets = [Kind::Json, Kind::Text, Kind::Int, Kind::Float, Kind::Bool];
    gets.into_iter()
        .map(|kind| ScalarUDF::new_from_impl(Get { kind, signature: variadic() }))
        .chain([Parts::Array, Parts::Object].map(|of| {
            ScalarUDF::new_from_impl(Elements { of, signature: Signature::any(1, Volatility::Immutable) })
        }))
        .collect()
}

fn variadic() -> Signature {
    Signature::variadic_any(Volatility::Immutable)
}

/// What a `json_get…` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Json,
    Text,
    Int,
    Float,
    Bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Get {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for Get {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Json => "json_get",
            Kind::Text => "json_get_str",
            Kind::Int => "json_get_int",
            Kind::Float => "json_get_float",
            Kind::Bool => "json_get_bool",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Json | Kind::Text => DataType::Utf8,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Bool => DataType::Boolean,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check_text(self.name(), args.arg_fields.first().map(|field| field.data_type()))?;
        if args.scalar_arguments.iter().skip(1).any(|scalar| scalar.and_then(step).is_none()) {
            return plan_err!(
                "the path of {} is made of names and numbers that stand in the statement: {}(text, 'key', 0)",
                self.name(),
                self.name()
            );
        }
        Ok(Arc::new(match self.kind {
            Kind::Json => json_field(self.name()),
            _ => Field::new(self.name(), self.return_type(&[])?, true),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut path = Vec::with_capacity(args.args.len());
        for arg in &args.args[1..] {
            match arg {
                ColumnarValue::Scalar(scalar) if step(scalar).is_some() => path.extend(step(scalar)),
                _ => return exec_err!("the path of {} must stand in the statement", self.name()),
            }
        }
        let array = args.args[0].to_array(args.number_rows)?;
        let array = text_array(&array)?;
        let texts = array.as_string::<i32>();
        let found = texts.iter().map(|text| text.and_then(|text| find(text, &path)));
        Ok(ColumnarValue::Array(match self.kind {
            Kind::Json => Arc::new(found.collect::<StringArray>()),
            Kind::Text => Arc::new(plain(found, texts.len())),
            Kind::Int => {
                let mut ints = Int64Builder::with_capacity(texts.len());
                found.for_each(|raw| ints.append_option(raw.and_then(int)));
                Arc::new(ints.finish())
            }
            Kind::Float => {
                let mut floats = Float64Builder::with_capacity(texts.len());
                found
                    .for_each(|raw| floats.append_option(raw.and_then(|raw| serde_json::from_str(raw).ok())));
                Arc::new(floats.finish())
            }
            Kind::Bool => {
                let mut bools = BooleanBuilder::with_capacity(texts.len());
                found.for_each(|raw| bools.append_option(raw.and_then(|raw| raw.parse().ok())));
                Arc::new(bools.finish())
            }
        }))
    }
}

/// What is taken apart into a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parts {
    Array,
    Object,
}

/// `json_array(text)`: the elements of a JSON array, as JSON texts.
/// `json_entries(text)`: the entries of a JSON object, as JSON texts
/// `{"key":…,"value":…}`. Text that is something else fails, so that no record
/// vanishes in an `unnest`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    of: Parts,
    signature: Signature,
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        match self.of {
            Parts::Array => "json_array",
            Parts::Object => "json_entries",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        check_text(self.name(), args.first())?;
        Ok(DataType::List(Arc::new(json_field(Field::LIST_FIELD_DEFAULT_NAME))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(match self.of {
            Parts::Array => arrays(&array)?,
            Parts::Object => objects(&array)?,
        }))
    }
}

/// The elements of JSON arrays.
pub(in crate::transform) fn arrays(array: &ArrayRef) -> Result<ArrayRef> {
    let array = text_array(array)?;
    let item = Arc::new(json_field(Field::LIST_FIELD_DEFAULT_NAME));
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item);
    for text in array.as_string::<i32>() {
        let Some(text) = text.filter(|text| text.trim_ascii() != "null") else {
            lists.append_null();
            continue;
        };
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else {
            return exec_err!("this is not a JSON array: {}", crate::transform::text::short(text, 80));
        };
        for element in elements {
            lists.values().append_option((element.get() != "null").then_some(element.get()));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// The entries of JSON objects.
fn objects(array: &ArrayRef) -> Result<ArrayRef> {
    let array = text_array(array)?;
    let item = Arc::new(json_field(Field::LIST_FIELD_DEFAULT_NAME));
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item);
    for text in array.as_string::<i32>() {
        let Some(text) = text.filter(|text| text.trim_ascii() != "null") else {
            lists.append_null();
            continue;
        };
        let Ok(Entries(entries)) = serde_json::from_str(text) else {
            return exec_err!("this is not a JSON object: {}", crate::transform::text::short(text, 80));
        };
        for (key, value) in entries {
            let key = serde_json::Value::String(key);
            lists.values().append_value(format!("{{\"key\":{key},\"value\":{}}}", value.get()));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// An object's entries in their order, each key once.
pub(super) struct Entries<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        reader.deserialize_map(ReadEntries)
    }
}

struct ReadEntries;

impl<'de> Visitor<'de> for ReadEntries {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            if seen.insert(key.clone()) {
                entries.push((key, value));
            }
        }
        Ok(Entries(entries))
    }
}

pub(super) fn check_text(name: &str, data_type: Option<&DataType>) -> Result<()> {
    match data_type {
        Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null) => Ok(()),
        Some(other) => plan_err!(
            "{name} reads JSON text, not {}; for objects and lists write a['field'] or a[1]",
            type_name(other)
        ),
        None => plan_err!("{name} takes the text first"),
    }
}

pub(super) fn text_array(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(arrow::compute::cast(array, &DataType::Utf8)?)
}

fn step(scalar: &ScalarValue) -> Option<Step<'_>> {
    match scalar {
        ScalarValue::Int64(Some(index)) => Some(Step::Element(usize::try_from(*index).ok())),
        other => other.try_as_str().flatten().map(Step::Key),
    }
}

/// The values at a path as plain text: strings without quotes, anything else
/// as JSON.
pub(super) fn texts(array: &ArrayRef, path: &[Step<'_>]) -> Result<StringArray> {
    let array = text_array(array)?;
    let texts = array.as_string::<i32>();
    Ok(plain(texts.iter().map(|text| text.and_then(|text| find(text, path))), texts.len()))
}

fn plain<'a>(found: impl Iterator<Item = Option<&'a str>>, rows: usize) -> StringArray {
    let mut texts = StringBuilder::with_capacity(rows, rows * 8);
    for raw in found {
        match raw {
            // A lone surrogate has no plain text: it stays as it is.
            Some(raw) if raw.starts_with('"') => match serde_json::from_str::<String>(raw) {
                Ok(text) => texts.append_value(text),
                Err(_) => texts.append_value(raw),
            },
            raw => texts.append_option(raw),
        }
    }
    texts.finish()
}

/// An integer, also if it is written as a float.
fn int(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let float: f64 = serde_json::from_str(raw).ok()?;
        // 2^63 is the first float that is too large.
        let fits = float.trunc() == float
            && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
        fits.then_some(float as i64)
    })
}

/// The JSON text at a path; JSON's null is nothing.
fn find<'a>(text: &'a str, path: &[Step<'_>]) -> Option<&'a str> {
    // Cheap: most text that is not JSON shows it at once.
    if !path.is_empty() && !matches!(text.trim_ascii_start().as_bytes().first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = Find(path).deserialize(&mut reader).ok()??;
    reader.end().ok()?;
    (found.get() != "null").then_some(found.get())
}

/// Reads the value at a path, and skips the rest.
#[derive(Clone, Copy)]
struct Find<'p>(&'p [Step<'p>]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(reader).map(Some),
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        let mut is_found = false;
        let wanted = match self.0 {
            [Step::Key(key), ..] => Some(*key),
            _ => None,
        };
        while let Some(is_wanted) = map.next_key_seed(Same(wanted))? {
            if is_wanted && !is_found {
                found = map.next_value_seed(Find(&self.0[1..]))?;
                is_found = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
        let wanted = match self.0 {
            [Step::Element(index), ..] => *index,
            _ => None,
        };
        let mut found = None;
        let mut index = 0;
        loop {
            if wanted == Some(index) {
                match list.next_element_seed(Find(&self.0[1..]))? {
                    Some(element) => found = element,
                    None => return Ok(found),
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is the wanted one, without keeping it.
struct Same<'p>(Option<&'p str>);

impl<'de> DeserializeSeed<'de> for Same<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Same<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> std::result::Result<bool, E> {
        Ok(self.0 == Some(key))
    }
}
