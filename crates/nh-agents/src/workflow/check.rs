//! What a workflow's steps give to what they use, held against what that takes,
//! as far as it is known before anything runs.

use std::collections::BTreeMap;

use nh_types::workflow::{WorkflowDefinition, WorkflowStep};
use serde_json::{Map, Value};

use super::plan::{Fault, Plan};
use nh_schema as schema;

/// The input schemas of what the steps use, by `uses`.
pub type Schemas = BTreeMap<String, Value>;

/// The plan of a workflow in which nothing is wrong.
pub fn check(workflow: &WorkflowDefinition, schemas: &Schemas) -> Result<Plan, Fault> {
    if let Some(schema) = &workflow.input_schema {
        schema::compile(schema).map_err(|error| Fault::new("input_schema", error))?;
    }
    let plan = Plan::read(workflow)?;
    for (place, step) in workflow.steps.iter().enumerate() {
        let at = format!("steps[{place}]");
        match schemas.get(&step.uses) {
            Some(schema) => check_with(step, &at, schema)?,
            None => check_wait(step, &at)?,
        }
    }
    check_input_variables(workflow, &plan)?;
    Ok(plan)
}

/// What is known of `with` fits the schema: where an expression stands, any
/// value may come.
fn check_with(step: &WorkflowStep, at: &str, schema: &Value) -> Result<(), Fault> {
    let Ok(validator) = schema::compile(schema) else { return Ok(()) };
    let mut unknown = Vec::new();
    let given = Value::Object(step.with.clone());
    find_expressions(&given, String::new(), &mut unknown);
    let faults = schema::faults(&validator, &given);
    let certain = |fault: &schema::Fault| {
        let is_inside = |path: &String| fault.path == *path || fault.path.starts_with(&format!("{path}/"));
        // Of the whole (such as `oneOf`) nothing is certain while a part is unknown.
        !unknown.iter().any(is_inside) && (unknown.is_empty() || !fault.path.is_empty())
    };
    match faults.into_iter().find(certain) {
        Some(fault) => {
            let place = schema::place(&format!("{at}.with"), &fault.path);
            Err(Fault::new(place, format!("`{}` does not take it: {}", step.uses, fault.message)))
        }
        None => Ok(()),
    }
}

/// The JSON pointers of all texts that hold an expression.
fn find_expressions(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains("{{") => found.push(path),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| {
                find_expressions(item, format!("{path}/{index}"), found);
            });
        }
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            find_expressions(field, format!("{path}/{name}"), found);
        }),
        _ => {}
    }
}

/// The fields that a step that waits is given.
fn check_wait(step: &WorkflowStep, at: &str) -> Result<(), Fault> {
    let known: &[&str] = match step.uses.as_str() {
        "sleep" => &["seconds", "until"],
        "signal" => &["name"],
        // What it shows is its own affair.
        _ => return Ok(()),
    };
    if let Some(unknown) = step.with.keys().find(|name| !known.contains(&name.as_str())) {
        let message = format!("`{}` takes {}", step.uses, known.join(" or "));
        return Err(Fault::new(format!("{at}.with.{unknown}"), message));
    }
    if step.with.len() != 1 {
        let message = format!("`{}` needs {}", step.uses, known.join(" or "));
        return Err(Fault::new(format!("{at}.with"), message));
    }
    Ok(())
}

/// An input that has declared fields has no others that could be named.
fn check_input_variables(workflow: &WorkflowDefinition, plan: &Plan) -> Result<(), Fault> {
    let Some(declared) = workflow.input_schema.as_ref().and_then(declared_fields) else { return Ok(()) };
    let mut named: Vec<(String, String)> = Vec::new();
    for step in &plan.steps {
        let place = workflow.steps.iter().position(|given| given.id == step.id).unwrap_or_default();
        let mut add = |field: &str, variables: std::collections::BTreeSet<String>| {
            named.extend(variables.into_iter().map(|name| (format!("steps[{place}].{field}"), name)));
        };
        add("with", step.with.variables());
        step.condition.iter().for_each(|condition| add("if", condition.variables()));
        step.for_each.iter().for_each(|for_each| add("for_each", for_each.variables()));
    }
    let output = plan.output.iter().flat_map(|output| output.variables());
    named.extend(output.map(|name| ("output".to_owned(), name)));
    for (place, variable) in named {
        let field = variable.strip_prefix("input.").and_then(|rest| rest.split('.').next());
        if let Some(field) = field.filter(|field| !declared.contains_key(*field)) {
            let known = declared.keys().take(20).cloned().collect::<Vec<_>>().join(", ");
            let message = format!("`input_schema` has no `{field}`; it has {known}");
            return Err(Fault::new(place, message));
        }
    }
    Ok(())
}

/// None where the schema says that other fields may come.
fn declared_fields(schema: &Value) -> Option<&Map<String, Value>> {
    let declared = schema.get("properties")?.as_object()?;
    let is_open = schema.get("additionalProperties").is_some_and(|more| more != &Value::Bool(false));
    let has_more = ["patternProperties", "allOf", "anyOf", "oneOf", "$ref", "if"]
        .into_iter()
        .any(|word| schema.get(word).is_some());
    (!is_open && !has_more).then_some(declared)
}
