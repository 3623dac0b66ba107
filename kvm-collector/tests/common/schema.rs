//! Validates JSON with `docs/schema.json`.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// Returns why an object is not valid.
///
/// # Errors
/// The differences from the definition of its `view`, or of any object without a `view`.
pub(crate) fn check_schema(object: &Value) -> Result<(), String> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    static ANY: OnceLock<Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        serde_json::from_str(include_str!("../../../docs/schema.json")).expect("JSON")
    });
    let any = ANY.get_or_init(|| jsonschema::validator_for(schema).expect("a schema"));
    if any.is_valid(object) {
        return Ok(());
    }
    // The errors of the one definition are much shorter than those of all.
    let definition = match object["view"].as_str() {
        Some("loss") => "loss_report",
        Some(view) => view,
        None => return Err(format!("no definition in docs/schema.json fits {object}")),
    };
    let definition = json!({
        "$ref": format!("#/$defs/{definition}"),
        "$defs": schema["$defs"],
    });
    let validator = jsonschema::validator_for(&definition)
        .map_err(|error| format!("docs/schema.json has no view like this: {error}"))?;
    let errors: Vec<_> = validator
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    Err(errors.join("\n"))
}
