//! `json_prune` and `event_values`: what JSON objects of analytics hits need
//! before they are columns.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde_json::value::RawValue;

use super::access::json_field;
use super::json::{Entries, check_text, text_array};

/// Powers of ten beyond this are no number that anybody counts with.
const EXPONENT_MAX: i32 = 30;

/// The functions.
pub(super) fn all() -> Vec<ScalarUDF> {
    let both = [Kind::Prune, Kind::Events];
    both.map(|kind| {
        ScalarUDF::new_from_impl(Tidy { kind, signature: Signature::any(1, Volatility::Immutable) })
    })
    .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Prune,
    Events,
}

/// `json_prune(text)`: the JSON without its empty parts: texts, objects and
/// arrays with nothing in them, and null; NULL if nothing is left.
///
/// `event_values(text)`: of an object `{"name": [{"count": 150, "exponent": -2},
/// …], …}`, as Adobe Analytics has events, `{"name": 1.50, …}`: the exact sum of
/// `count` times ten to the power of `exponent`. What is none of this is left
/// out; NULL if nothing is left.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Tidy {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for Tidy {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Prune => "json_prune",
            Kind::Events => "event_values",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        check_text(self.name(), args.first())?;
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| Field::data_type(field).clone()).collect();
        self.return_type(&types)?;
        Ok(Arc::new(json_field(self.name())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let array = text_array(&array)?;
        let mut texts = StringBuilder::with_capacity(array.len(), 0);
        let mut text = String::new();
        for json in array.as_string::<i32>() {
            text.clear();
            let is_left = json.is_some_and(|json| match self.kind {
                Kind::Prune => prune(json.trim_ascii(), &mut text),
                Kind::Events => event_values(json, &mut text),
            });
            texts.append_option(is_left.then_some(&text));
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}

/// Writes what is not empty; whether something is. Numbers stay as they are
/// spelt.
fn prune(json: &str, out: &mut String) -> bool {
    let before = out.len();
    let (open, close) = match json.as_bytes().first() {
        Some(b'{') => ('{', '}'),
        Some(b'[') => ('[', ']'),
        // The reader of the whole has checked what this is a part of.
        Some(_) if !matches!(json, "null" | "\"\"") && serde_json::from_str::<&RawValue>(json).is_ok() => {
            out.push_str(json);
            return true;
        }
        _ => return false,
    };
    out.push(open);
    let mut left = false;
    let mut part = |key: Option<String>, value: &RawValue, out: &mut String| {
        let start = out.len();
        if left {
            out.push(',');
        }
        if let Some(key) = key {
            out.push_str(&serde_json::Value::String(key).to_string());
            out.push(':');
        }
        if prune(value.get(), out) {
            left = true;
        } else {
            out.truncate(start);
        }
    };
    match open {
        '{' => {
            let Ok(Entries(entries)) = serde_json::from_str(json) else { return false };
            entries.into_iter().for_each(|(key, value)| part(Some(key), value, out));
        }
        _ => {
            let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(json) else { return false };
            elements.into_iter().for_each(|value| part(None, value, out));
        }
    }
    if !left {
        out.truncate(before);
        return false;
    }
    out.push(close);
    true
}

fn event_values(json: &str, out: &mut String) -> bool {
    let Ok(Entries(entries)) = serde_json::from_str(json) else { return false };
    out.push('{');
    for (name, instances) in entries {
        let Some(sum) = sum(instances.get()) else { continue };
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::String(name).to_string());
        out.push(':');
        out.push_str(&sum.to_string());
    }
    out.push('}');
    out.len() > 2
}

/// `digits` times ten to the power of minus `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exact {
    digits: i128,
    scale: i32,
}

#[derive(serde::Deserialize)]
struct Instance<'a> {
    #[serde(borrow)]
    count: &'a RawValue,
    #[serde(borrow, default)]
    exponent: Option<&'a RawValue>,
}

/// The sum of an event's instances; `None` if one of them is no number.
fn sum(instances: &str) -> Option<Exact> {
    let instances: Vec<Instance<'_>> = serde_json::from_str(instances).ok()?;
    let mut sum: Option<Exact> = None;
    for instance in instances {
        // Both are numbers in the sample, and texts elsewhere.
        let count = Exact::read(instance.count.get())?;
        let exponent = match instance.exponent.map(|raw| raw.get().trim_matches('"')) {
            None | Some("null" | "") => 0,
            Some(text) => text.parse::<i32>().ok().filter(|exponent| exponent.abs() <= EXPONENT_MAX)?,
        };
        let value = Exact { digits: count.digits, scale: count.scale - exponent };
        sum = Some(match sum {
            None => value,
            Some(sum) => sum.plus(value)?,
        });
    }
    sum
}

impl Exact {
    /// A plain decimal number, perhaps as a text.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim_matches('"');
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole.strip_prefix('-').unwrap_or(whole)) || !is_number(fraction) || fraction.len() > 20
        {
            return None;
        }
        Some(Self {
            digits: format!("{whole}{fraction}").parse().ok()?,
            scale: i32::try_from(fraction.len()).ok()?,
        })
    }

    /// The same number with more digits behind the point.
    fn at(self, scale: i32) -> Option<i128> {
        let more = u32::try_from(scale - self.scale).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(more)?)
    }

    fn plus(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Some(Self { digits: self.at(scale)?.checked_add(other.at(scale)?)?, scale })
    }
}

impl std::fmt::Display for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let mut digits = self.digits.unsigned_abs().to_string();
        let Ok(scale) = usize::try_from(self.scale) else {
            let zeros = self.scale.unsigned_abs() as usize;
            let zeros = if self.digits == 0 { 0 } else { zeros };
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros));
        };
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        while digits.len() <= scale {
            digits.insert(0, '0');
        }
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(function: impl Fn(&str, &mut String) -> bool, json: &str) -> Option<String> {
        let mut out = String::new();
        function(json, &mut out).then_some(out)
    }

    #[test]
    fn empty_parts_go_and_the_rest_stays_as_it_is_spelt() {
        let check = |json: &str, expect: Option<&str>| {
            assert_eq!(written(prune, json).as_deref(), expect, "{json}");
        };
        check(r#"{"a":"","b":[],"c":{},"d":null}"#, None);
        check(r#"{"a":{"b":{"c":[""]}}}"#, None);
        check(
            r#"{"a":"x","b":"", "c":[1.50,null,"",{}], "d":{"e":18446744073709551615}}"#,
            Some(r#"{"a":"x","c":[1.50],"d":{"e":18446744073709551615}}"#),
        );
        check(r#"{"a":0,"b":false,"c":" "}"#, Some(r#"{"a":0,"b":false,"c":" "}"#));
        check(r#"{"é\"":"\u00e9"}"#, Some(r#"{"é\"":"\u00e9"}"#));
        check("12", Some("12"));
        for bad in ["", "null", "{", "[1,", "nonsense", r#"{"a":tru}"#] {
            check(bad, None);
        }
    }

    #[test]
    fn counts_and_exponents_are_exact() {
        let check = |instances: &str, expect: Option<&str>| {
            let json = format!(r#"{{"e":{instances}}}"#);
            let expect = expect.map(|value| format!(r#"{{"e":{value}}}"#));
            assert_eq!(written(event_values, &json), expect, "{json}");
        };
        check(r#"[{"count":150,"exponent":-2,"unique":""}]"#, Some("1.50"));
        check(r#"[{"count":1,"exponent":0}]"#, Some("1"));
        check(r#"[{"count":"3","exponent":"1"}]"#, Some("30"));
        check(r#"[{"count":5,"exponent":-4}]"#, Some("0.0005"));
        check(r#"[{"count":-5,"exponent":-1}]"#, Some("-0.5"));
        check(r#"[{"count":0,"exponent":5}]"#, Some("0"));
        check(r#"[{"count":"1.5","exponent":-1}]"#, Some("0.15"));
        check(r#"[{"count":7}]"#, Some("7"));
        // Several instances of one event in a hit are counted together.
        check(
            r#"[{"count":99999,"exponent":-2},{"count":3,"exponent":1},{"count":1,"exponent":0}]"#,
            Some("1030.99"),
        );
        check(
            r#"[{"count":9007199254740993,"exponent":-2},{"count":1,"exponent":-2}]"#,
            Some("90071992547409.94"),
        );
        for bad in [
            "[]",
            "3",
            r#"[{"exponent":1}]"#,
            r#"[{"count":1,"exponent":99}]"#,
            r#"[{"count":"x"}]"#,
            r#"[{"count":99999999999999999999999999999999999999999}]"#,
        ] {
            check(bad, None);
        }
        let both = r#"{"a":[{"count":1,"exponent":0}],"bad":1,"b":[{"count":2,"exponent":0}]}"#;
        assert_eq!(written(event_values, both).as_deref(), Some(r#"{"a":1,"b":2}"#));
    }
}
