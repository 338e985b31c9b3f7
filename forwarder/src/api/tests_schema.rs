//! The document says of every answer what is in it.

use serde_json::Value;

use super::{
    endpoints::{ENDPOINTS, Kind},
    openapi::document,
    tests::start,
};

/// Their questions are of a time and a thing that the tests' history has; all that may be said goes together.
const REPORT: &str = "/v1/report/";

/// What is wrong with a value, by its schema; only what our rows need of JSON Schema.
fn fault(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let named = document.pointer(reference.strip_prefix('#')?)?;
        return fault(document, named, value);
    }
    for among in ["anyOf", "oneOf"] {
        if let Some(several) = schema[among].as_array() {
            let faults = several.iter().map(|one| fault(document, one, value));
            let all: Option<Vec<String>> = faults.collect();
            return all.map(|faults| faults.join(" and "));
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &Value| name == kind || (name == "number" && kind == "integer");
    match &schema["type"] {
        Value::Array(kinds) if !kinds.iter().any(is) => return Some(format!("{value} is none of {kinds:?}")),
        Value::String(_) if !is(&schema["type"]) => return Some(format!("{value} is no {}", schema["type"])),
        _ => {}
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Some(format!("{value} is none of {words:?}"));
    }
    if let Some(object) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return Some(format!("{name} is missing in {value}"));
            }
        }
        for (name, value) in object {
            let Some(schema) = schema["properties"].get(name) else {
                return Some(format!("{name} is not described"));
            };
            if let Some(why) = fault(document, schema, value) {
                return Some(format!("{name}: {why}"));
            }
        }
    }
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| fault(document, &schema["items"], item))
        .next()
}

#[test]
fn every_answer_has_the_fields_that_the_document_says() {
    let api = start();
    let document = document();
    for endpoint in ENDPOINTS {
        let examples: Vec<String> = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required || endpoint.path.starts_with(REPORT))
            .map(|parameter| format!("{}={}", parameter.name, parameter.example))
            .collect();
        let mut path = format!("{}?{}", endpoint.path, examples.join("&"));
        if endpoint.path == "/v1/candidates" {
            // The example is the prefix for which the tests' controller has no time.
            path = "/v1/candidates?prefix=203.0.113.0/24".into();
        }
        let rows = Value::Array(api.rows(&path));
        let answer = &document["paths"][endpoint.path]["get"]["responses"]["200"];
        let schema = &answer["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{}", endpoint.path);
        assert_eq!(fault(&document, schema, &rows), None, "{path}");
    }
    let by = api.rows("/v1/counters?by=next-hop&all=true");
    let schema = &document["paths"]["/v1/counters"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    assert_eq!(fault(&document, schema, &Value::Array(by)), None);
}

#[test]
fn a_field_that_is_not_described_or_missing_or_of_another_kind_is_noticed() {
    let document = document();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/DropRow" });
    let row = |name: &str, value: Value| {
        let mut row = serde_json::json!({
            "ifname": "a", "reason": "b", "verdict": "drop", "packets": 1, "bytes": null, "help": "c"
        });
        row[name] = value;
        fault(&document, &schema, &row)
    };
    assert_eq!(row("packets", 2.into()), None);
    assert!(row("packets", "two".into()).is_some());
    assert!(row("packets", Value::Null).is_some());
    assert!(row("colour", 1.into()).is_some_and(|why| why.contains("colour")));
    let short = serde_json::json!({ "ifname": "a" });
    assert!(fault(&document, &schema, &short).is_some_and(|why| why.contains("is missing")));
}

#[test]
fn every_parameter_is_taken_and_every_field_explained() {
    let api = start();
    for endpoint in ENDPOINTS {
        for parameter in endpoint.parameters {
            let others = endpoint
                .parameters
                .iter()
                .filter(|other| other.required || other.name == "limit" || endpoint.path.starts_with(REPORT));
            let mut words: Vec<String> = others
                .map(|other| format!("{}={}", other.name, other.example))
                .filter(|word| !word.starts_with(&format!("{}=", parameter.name)))
                .collect();
            words.push(format!("{}={}", parameter.name, parameter.example));
            let path = format!("{}?{}", endpoint.path, words.join("&"));
            let (status, body) = api.ask(&path);
            let busy = endpoint.path == "/v1/candidates" && status == 503;
            assert!(status == 200 || busy, "{path}: {body}");
            if let Kind::Word(all) = parameter.kind {
                // Whether there is a history of something by that name is another question.
                let known = endpoint.path == "/v1/history" || endpoint.path.starts_with(REPORT);
                for word in all().into_iter().filter(|_| !known) {
                    let path = format!("{}?{}={word}", endpoint.path, parameter.name);
                    // What is counted only where the configuration says so is refused with what to write.
                    let (status, body) = api.ask(&path);
                    let refused = status == 400 && body.contains("the configuration has to say");
                    assert!(status == 200 || refused, "{path}: {body}");
                }
            }
        }
    }
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let documented = schema["description"].is_string() || schema["anyOf"].is_array();
            assert!(documented, "{name}.{field} is not explained");
        }
    }
}

#[test]
fn the_document_names_every_path_and_refers_to_nothing_that_is_not_there() {
    let api = start();
    let (status, text) = api.ask("/v1/openapi.json");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let (_, unknown) = api.ask("/v1/nothing");
    for path in document["paths"].as_object().unwrap().keys() {
        // A report of this month is not found either: the tests' history has nothing of it.
        let (status, body) = api.ask(path);
        assert!(
            status != 404 || body.contains("the history has nothing of"),
            "{path}: {body}"
        );
        assert!(unknown.contains(path.as_str()), "{path} is not in {unknown}");
    }
    for reference in text.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
