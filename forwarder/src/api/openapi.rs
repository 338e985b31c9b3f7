//! The document at `/v1/openapi.json` (OpenAPI 3.1), made from the table of endpoints and the rows' own documentation.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::endpoints::{ENDPOINTS, Endpoint, Kind, Parameter};

/// The document, made once.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// Where schemas stand in it.
const SCHEMAS: &str = "/components/schemas";

pub(super) fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = SCHEMAS.into())
        .for_serialize()
        .into_generator();
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let row = (endpoint.row)(&mut generator);
        paths.insert(endpoint.path.into(), operation(endpoint, &row.to_value()));
    }
    paths.insert(
        "/v1/openapi.json".into(),
        json!({ "get": {
            "summary": "This document",
            "responses": { "200": { "description": "OpenAPI 3.1", "content": { "application/json": {} } } },
        } }),
    );
    paths.insert(
        "/metrics".into(),
        json!({ "get": {
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": { "description": "OpenMetrics", "content": { "application/openmetrics-text": {} } },
                "503": refusal("Too much is asked at a time: try again"),
            },
        } }),
    );
    let mut schemas = generator.take_definitions(true);
    schemas.insert(
        "Error".into(),
        json!({
            "type": "object",
            "properties": { "error": { "type": "string", "description": "What is wrong, and what to do" } },
            "required": ["error"],
        }),
    );
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "forwarder",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "What the controller knows, read-only: arrays of flat rows, one on each line. Served on the Unix socket \
                and, unless [api] page says otherwise, beside /metrics. Fields are added without notice; one that is taken away \
                or changes its meaning makes a new /v2.",
        },
        "servers": [{ "url": "http://127.0.0.1:9177" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(endpoint: &Endpoint, row: &Value) -> Value {
    let rows = json!({
        "description": "Rows",
        "content": { "application/json": { "schema": { "type": "array", "items": row } } },
    });
    let parameters: Vec<Value> = endpoint.parameters.iter().map(parameter).collect();
    let mut responses = json!({ "200": rows, "503": refusal("Too much is asked at a time: try again") });
    if !parameters.is_empty() {
        responses["400"] = refusal("The question is none that can be answered");
    }
    json!({ "get": { "summary": endpoint.summary, "parameters": parameters, "responses": responses } })
}

fn parameter(parameter: &Parameter) -> Value {
    let (schema, example) = match &parameter.kind {
        Kind::Flag => (
            json!({ "type": "boolean", "default": false }),
            (parameter.example == "true").into(),
        ),
        Kind::Number(most) => (
            json!({ "type": "integer", "minimum": 1, "maximum": most }),
            parameter.example.parse::<u64>().map_or(Value::Null, Value::from),
        ),
        Kind::Percent => (
            json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 100 }),
            parameter.example.parse::<f64>().map_or(Value::Null, Value::from),
        ),
        Kind::Time => (
            json!({ "type": "integer" }),
            parameter.example.parse::<i64>().map_or(Value::Null, Value::from),
        ),
        Kind::Text => (json!({ "type": "string" }), parameter.example.into()),
        Kind::Word(words) => (
            json!({ "type": "string", "enum": words() }),
            parameter.example.into(),
        ),
    };
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.help,
        "schema": schema,
        "example": example,
    })
}

fn refusal(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    })
}
