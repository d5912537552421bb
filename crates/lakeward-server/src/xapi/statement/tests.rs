//! The rules, one by one.

use serde_json::json;

use super::*;

fn good() -> Value {
    json!({
        "id": "12345678-1234-5678-1234-567812345678",
        "actor": {"objectType": "Agent", "mbox": "mailto:a@example.com"},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/completed", "display": {"en-US": "completed"}},
        "object": {"id": "http://example.com/a", "definition": {"type": "http://example.com/t", "name": {"en": "A"}}},
        "result": {"score": {"scaled": 0.5, "raw": 5, "min": 0, "max": 10}, "success": true, "completion": true,
            "response": "x", "duration": "PT1S", "extensions": {"http://example.com/e": null}},
        "context": {"registration": "12345678-1234-5678-1234-567812345678", "platform": "p",
            "contextActivities": {"category": [{"id": "http://example.com/c"}]}},
        "timestamp": "2026-03-01T05:06:07.123+01:00", "version": "1.0.0",
    })
}

/// A statement with one of its parts replaced, by its pointer; or left out.
fn with(pointer: &str, part: Value) -> Value {
    let mut statement = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = statement.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match part {
        Value::Null => parent.remove(name),
        part => parent.insert(name.to_owned(), part),
    };
    statement
}

#[test]
fn required_parts() {
    assert_eq!(check(&good(), true).unwrap().unwrap().to_string(), "12345678-1234-5678-1234-567812345678");
    assert_eq!(check(&with("/id", Value::Null), true), Ok(None));
    for strict in [false, true] {
        for (pointer, part, property) in [
            ("/id", json!("x"), "id"),
            ("/id", json!(7), "id"),
            ("/actor", Value::Null, "actor"),
            ("/actor", json!("me"), "actor"),
            ("/verb", Value::Null, "verb"),
            ("/verb/id", Value::Null, "verb.id"),
            ("/verb/id", json!(""), "verb.id"),
            ("/verb/id", json!(7), "verb.id"),
            ("/object", Value::Null, "object"),
            ("/object/id", Value::Null, "object.id"),
            ("/object/objectType", json!(1), "object.objectType"),
            ("/object", json!({"objectType": "SubStatement"}), "object.actor"),
            ("/result", json!(1), "result"),
            ("/context", json!([]), "context"),
            ("/timestamp", json!(17), "timestamp"),
        ] {
            let problem = check(&with(pointer, part.clone()), strict).unwrap_err();
            assert_eq!(problem.property, property, "{pointer} {part}");
        }
        for no_object in [json!([]), json!("x"), json!(null), json!(1)] {
            assert!(check(&no_object, strict).is_err());
        }
    }
}

#[test]
fn what_platforms_send_is_refused_only_if_asked_for() {
    for (pointer, part, property) in [
        ("/actor", json!({}), "actor"),
        ("/actor", json!({"account": {"homePage": "http://x", "name": 15474}}), "actor.account.name"),
        (
            "/actor",
            json!({"account": {"homePage": "proton.oli.cmu.edu", "name": "a"}}),
            "actor.account.homePage",
        ),
        ("/actor", json!({"mbox": "mailto:a@b", "openid": "http://x"}), "actor"),
        ("/actor", json!({"mbox": "a@b"}), "actor.mbox"),
        ("/actor", json!({"mbox_sha1sum": "ab"}), "actor.mbox_sha1sum"),
        ("/actor", json!({"objectType": "Group", "member": []}), "actor"),
        ("/verb/id", json!("completed"), "verb.id"),
        ("/verb/display", json!("completed"), "verb.display"),
        ("/object/id", json!("https://host/part_attempt/x}"), "object.id"),
        ("/object/objectType", json!("Page"), "object.objectType"),
        ("/object/definition/type", json!("page"), "object.definition.type"),
        ("/registration", json!("145-81181-1"), "registration"),
        ("/result/response", json!({"input": ".138"}), "result.response"),
        ("/result/score/scaled", json!(50), "result.score.scaled"),
        ("/result/score/raw", json!(50), "result.score"),
        ("/result/score/min", json!("0"), "result.score.min"),
        ("/result/success", json!("yes"), "result.success"),
        ("/result/duration", json!("1s"), "result.duration"),
        ("/context/registration", json!("145"), "context.registration"),
        ("/context/extensions", json!({"section_id": 1}), "context.extensions.section_id"),
        ("/context/contextActivities/kind", json!([]), "context.contextActivities.kind"),
        ("/context/language", json!(1), "context.language"),
        ("/timestamp", json!("yesterday"), "timestamp"),
        ("/stored", json!("yesterday"), "stored"),
        ("/version", json!("0.9"), "version"),
    ] {
        let statement = with(pointer, part);
        assert!(check(&statement, false).is_ok(), "{statement}");
        assert_eq!(check(&statement, true).unwrap_err().property, property, "{statement}");
    }
    for other in [
        json!({"objectType": "Agent", "mbox": "mailto:a@b"}),
        json!({"objectType": "StatementRef", "id": "12345678-1234-5678-1234-567812345678"}),
    ] {
        assert!(check(&with("/object", other), true).is_ok());
    }
    let mut inner = good();
    inner["objectType"] = json!("SubStatement");
    inner.as_object_mut().unwrap().remove("id");
    assert!(check(&with("/object", inner.clone()), true).is_ok());
    let mut outer = inner.clone();
    outer["object"] = inner;
    assert_eq!(check(&with("/object", outer), false).unwrap_err().property, "object.object");
}

#[test]
fn the_same_statement_means_the_same() {
    let read = |text: &str| meaning(&serde_json::from_str(text).unwrap());
    let one = read(r#"{"id":"a","actor":{"x":1,"y":[1,2.50]},"stored":"now"}"#);
    assert_eq!(one, read(r#"{ "actor": {"y": [1.0, 2.5], "x": 1e0}, "id": "b", "authority": {} }"#));
    for other in [
        r#"{"actor":{"x":1,"y":[2.5,1]}}"#,
        r#"{"actor":{"x":1,"y":[1,2.5]},"timestamp":"t"}"#,
        r#"{"actor":{"x":"1","y":[1,2.5]}}"#,
        r#"{"actor":{"x":true,"y":[1,2.5]}}"#,
        r#"{"actor":{"x":1,"y":[1,2.5],"id":"a"}}"#,
        "{}",
    ] {
        assert_ne!(one, read(other), "{other}");
    }
}
