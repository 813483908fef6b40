//! `openapi.json` says what the types say: values made of each schema are read as its type.

use std::collections::BTreeSet;

use hotlb_core::config::Hook;
use hotlb_values::Losses;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::wire::{
    AdoptRequest, AgentUpgradeRequest, DatagramStatus, DeployRequest, DrainStatus, EndingStatus,
    ExecAnswer, ExecRequest, Failure, FlowList, GenerationRef, GenerationStatus, History, Incident,
    IncidentList, IncidentSummary, KeptProfilesStatus, Line, Phase, Profile, ProfileRequest,
    PromoteRequest, Quantiles, RollbackRequest, RolloutDetail, RolloutOptions, RolloutStatus,
    ServiceStatus, Status, StopRequest, Summary, UpgradeRequest, Window, WindowQuantiles, Windows,
};

/// What a type makes of a value; the error says why nothing.
type Read = fn(Value) -> Result<Value, String>;

fn read<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let value: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

const TYPES: [(&str, Read); 37] = [
    ("AdoptRequest", read::<AdoptRequest>),
    ("AgentUpgradeRequest", read::<AgentUpgradeRequest>),
    ("DatagramStatus", read::<DatagramStatus>),
    ("DeployRequest", read::<DeployRequest>),
    ("DrainStatus", read::<DrainStatus>),
    ("EndingStatus", read::<EndingStatus>),
    ("ExecAnswer", read::<ExecAnswer>),
    ("ExecRequest", read::<ExecRequest>),
    ("Failure", read::<Failure>),
    ("FlowList", read::<FlowList>),
    ("GenerationRef", read::<GenerationRef>),
    ("GenerationStatus", read::<GenerationStatus>),
    ("History", read::<History>),
    ("Hook", read::<Hook>),
    ("Incident", read::<Incident>),
    ("IncidentList", read::<IncidentList>),
    ("IncidentSummary", read::<IncidentSummary>),
    ("KeptProfilesStatus", read::<KeptProfilesStatus>),
    ("Line", read::<Line>),
    ("Losses", read::<Losses>),
    ("Phase", read::<Phase>),
    ("Profile", read::<Profile>),
    ("ProfileRequest", read::<ProfileRequest>),
    ("PromoteRequest", read::<PromoteRequest>),
    ("Quantiles", read::<Quantiles>),
    ("RollbackRequest", read::<RollbackRequest>),
    ("RolloutDetail", read::<RolloutDetail>),
    ("RolloutOptions", read::<RolloutOptions>),
    ("RolloutStatus", read::<RolloutStatus>),
    ("ServiceStatus", read::<ServiceStatus>),
    ("Status", read::<Status>),
    ("StopRequest", read::<StopRequest>),
    ("Summary", read::<Summary>),
    ("UpgradeRequest", read::<UpgradeRequest>),
    ("Window", read::<Window>),
    ("WindowQuantiles", read::<WindowQuantiles>),
    ("Windows", read::<Windows>),
];

/// Which of the values that a schema allows.
#[derive(Clone, Copy, PartialEq)]
enum Fill {
    /// Every property, nothing `null`.
    All,
    /// Every property, `null` where it may be.
    Nulls,
    /// Only what is required.
    Required,
}

/// The schemas of the document, by name.
struct Schemas(Map<String, Value>);

impl Schemas {
    fn of_the_document() -> Self {
        let document: Value = serde_json::from_str(crate::OPENAPI).unwrap();
        Self(
            document["components"]["schemas"]
                .as_object()
                .unwrap()
                .clone(),
        )
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str();
        let name = name.map(|name| name.trim_start_matches("#/components/schemas/"));
        name.map_or(schema, |name| self.resolved(&self.0[name]))
    }

    fn may_be_null(&self, schema: &Value) -> bool {
        let schema = self.resolved(schema);
        let says_something = ["type", "enum", "const", "oneOf", "allOf"];
        if says_something.iter().all(|key| schema[key].is_null()) {
            return true;
        }
        let lists = ["type", "enum"].map(|key| schema[key].as_array());
        let says = |value: &Value| value.is_null() || value == "null";
        let here = schema["type"] == "null" || lists.into_iter().flatten().flatten().any(says);
        let one_of = schema["oneOf"].as_array().into_iter().flatten();
        here || one_of.into_iter().any(|schema| self.may_be_null(schema))
    }

    /// A value that the schema allows; of several shapes the one at `turn`.
    fn example(&self, schema: &Value, fill: Fill, turn: usize) -> Value {
        let schema = self.resolved(schema);
        if fill == Fill::Nulls && self.may_be_null(schema) {
            return Value::Null;
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.example(part, fill, turn));
            let fields = parts.filter_map(|part| part.as_object().cloned()).flatten();
            return fields.collect();
        }
        if let Some(shapes) = schema["oneOf"].as_array() {
            let shapes: Vec<_> = shapes
                .iter()
                .filter(|shape| shape["type"] != "null")
                .collect();
            return self.example(shapes[turn % shapes.len()], fill, turn);
        }
        if !schema["const"].is_null() {
            return schema["const"].clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[0].clone();
        }
        match type_of(schema) {
            "object" => self.object(schema, fill, turn),
            "array" => match schema["prefixItems"].as_array() {
                Some(items) => items
                    .iter()
                    .map(|item| self.example(item, fill, turn))
                    .collect(),
                None => json!([self.example(&schema["items"], fill, turn)]),
            },
            "integer" => json!(schema["minimum"].as_u64().unwrap_or(1)),
            "number" => json!(0.5),
            "boolean" => json!(true),
            // An address, a path and a text at once; ids have a pattern.
            _ => match schema["pattern"].as_str() {
                Some(pattern) => json!(format!("{}1", &pattern[1..2])),
                None => json!("127.0.0.1:80"),
            },
        }
    }

    fn object(&self, schema: &Value, fill: Fill, turn: usize) -> Value {
        let required = schema["required"].as_array();
        let required: Vec<_> = required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = schema["properties"].as_object().into_iter().flatten();
        let wanted = properties
            .filter(|(name, _)| fill != Fill::Required || required.contains(&name.as_str()));
        let mut fields: Map<_, _> = wanted
            .map(|(name, schema)| (name.clone(), self.example(schema, fill, turn)))
            .collect();
        if schema["additionalProperties"].is_object() && fill != Fill::Required {
            let value = self.example(&schema["additionalProperties"], fill, turn);
            fields.insert("key".to_owned(), value);
        }
        Value::Object(fields)
    }

    /// Every schema that [`Self::example`] with [`Fill::All`] goes through, with the place in it.
    fn visit(&self, schema: &Value, place: &str, turn: usize, seen: &mut dyn FnMut(&Value, &str)) {
        let schema = self.resolved(schema);
        seen(schema, place);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.visit(part, place, turn, seen);
        }
        if let Some(shapes) = schema["oneOf"].as_array() {
            let shapes: Vec<_> = shapes
                .iter()
                .filter(|shape| shape["type"] != "null")
                .collect();
            self.visit(shapes[turn % shapes.len()], place, turn, seen);
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            self.visit(schema, &format!("{place}/{name}"), turn, seen);
        }
        let items = schema["prefixItems"].as_array().into_iter().flatten();
        let items = items.chain(schema.get("items").filter(|items| items.is_object()));
        for (index, item) in items.enumerate() {
            self.visit(item, &format!("{place}/{index}"), turn, seen);
        }
    }
}

/// The one that is not `null`.
fn type_of(schema: &Value) -> &str {
    let listed = schema["type"].as_array().into_iter().flatten();
    let mut listed = listed
        .filter_map(Value::as_str)
        .filter(|name| *name != "null");
    schema["type"]
        .as_str()
        .or_else(|| listed.next())
        .unwrap_or_default()
}

/// Keys without values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        _ => Value::Null,
    }
}

/// As many shapes as the schema with the most has.
const TURNS: usize = 9;

#[test]
fn the_document_names_the_version() {
    let document: Value = serde_json::from_str(super::OPENAPI).unwrap();
    let info = &document["info"];
    assert_eq!(info["version"], super::wire::VERSION.to_string());
    let header = format!("hotlb-api: {}.", super::wire::VERSION);
    assert!(info["description"].as_str().unwrap().contains(&header));
}

#[test]
fn every_schema_has_its_type() {
    let schemas = Schemas::of_the_document();
    let types: BTreeSet<_> = TYPES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(schemas.0.keys().cloned().collect::<BTreeSet<_>>(), types);
}

#[test]
fn types_read_what_the_schemas_allow_and_have_the_same_fields() {
    let schemas = Schemas::of_the_document();
    let mut wrong = BTreeSet::new();
    for (name, read) in TYPES {
        let schema = &schemas.0[name];
        for turn in 0..TURNS {
            let whole = schemas.example(schema, Fill::All, turn);
            match read(whole.clone()) {
                Ok(told) if shape(&told) == shape(&whole) => {}
                Ok(told) => drop(wrong.insert(format!("{name}: {whole} is {told}"))),
                Err(why) => drop(wrong.insert(format!("{name}: {why}: {whole}"))),
            }
            for fill in [Fill::Nulls, Fill::Required] {
                let value = schemas.example(schema, fill, turn);
                if let Err(why) = read(value.clone()) {
                    wrong.insert(format!("{name}: {why}: {value}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn types_refuse_null_where_the_schemas_do() {
    let schemas = Schemas::of_the_document();
    let mut wrong = Vec::new();
    for (name, read) in TYPES {
        let whole = schemas.example(&schemas.0[name], Fill::All, 0);
        // Of several schemas of one place the outermost comes first.
        let mut places = Vec::<(String, bool)>::new();
        schemas.visit(&schemas.0[name], "", 0, &mut |schema, place| {
            if !place.is_empty() && places.iter().all(|(seen, _)| seen != place) {
                places.push((place.to_owned(), schemas.may_be_null(schema)));
            }
        });
        for (place, _) in places.iter().filter(|(_, may_be_null)| !may_be_null) {
            let mut value = whole.clone();
            if let Some(part) = value.pointer_mut(place) {
                *part = Value::Null;
            }
            if read(value).is_ok() {
                wrong.push(format!("{name}: {place} may be null"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A value that no enum has: the error lists those that it has. Where the type is a text there is no error.
#[test]
fn enums_have_the_values_of_the_types() {
    let schemas = Schemas::of_the_document();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (name, read) in TYPES {
        let whole = schemas.example(&schemas.0[name], Fill::All, 0);
        schemas.visit(&schemas.0[name], "", 0, &mut |schema, place| {
            // Of several shapes each has its own kind.
            let shapes = schema["oneOf"].as_array().into_iter().flatten();
            let kinds = shapes.filter_map(|shape| shape["properties"]["kind"]["const"].as_str());
            let values = schema["enum"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str);
            let shown: BTreeSet<_> = values.chain(kinds).collect();
            if shown.is_empty() && schema["type"] != "string" {
                return;
            }
            let place = if schema["enum"].is_null() && !shown.is_empty() {
                format!("{place}/kind")
            } else {
                place.to_owned()
            };
            let mut value = whole.clone();
            *value.pointer_mut(&place).unwrap() = json!("no such value");
            if let Err(error) = read(value)
                && let Some((_, expected)) = error.split_once("unknown variant")
                && let Some((_, expected)) = expected.split_once("expected ")
            {
                let expected: BTreeSet<_> = expected.split('`').skip(1).step_by(2).collect();
                compared += 1;
                if expected != shown {
                    wrong.push(format!("{name}: {place}: {expected:?} in the type"));
                }
            }
        });
    }
    assert!(wrong.is_empty() && compared > 5, "{compared}: {wrong:#?}");
}
