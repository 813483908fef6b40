//! The schemas of the types that the routes name, and of those that these name.

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value};
use thiserror::Error;

/// Collects schemas. A request says what the agent reads, where much may be left out; a response what it writes.
pub(crate) struct Schemas {
    requests: SchemaGenerator,
    responses: SchemaGenerator,
}

/// A type that requests and responses share, with a schema that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the schema {0} is not the same in requests and in responses: use two types")]
pub struct TwoMeanings(String);

impl Schemas {
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let settings = settings.with_transform(RecursiveTransform(join_lines));
        let responses = settings.clone().for_serialize();
        Self {
            requests: settings.into_generator(),
            responses: responses
                .with_transform(RecursiveTransform(leave_out_default))
                .into_generator(),
        }
    }

    /// What a client sends.
    pub(crate) fn request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }

    /// What the agent answers.
    pub(crate) fn response<T: JsonSchema>(&mut self) -> Value {
        self.responses.subschema_for::<T>().to_value()
    }

    /// All of them, by name.
    pub(crate) fn into_components(mut self) -> Result<Map<String, Value>, TwoMeanings> {
        let mut all = self.responses.take_definitions(true);
        for (name, schema) in self.requests.take_definitions(true) {
            match all.get(&name) {
                Some(other) if *other != schema => return Err(TwoMeanings(name)),
                Some(_) => {}
                None => drop(all.insert(name, schema)),
            }
        }
        Ok(all)
    }
}

/// A comment is wrapped where its file ends, a description where its reader's screen does.
fn join_lines(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        let paragraphs = description.split("\n\n");
        let paragraphs: Vec<_> = paragraphs.map(|lines| lines.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

/// A default is for a client that reads the answer of a former agent. This agent leaves no field out.
fn leave_out_default(schema: &mut Schema) {
    schema.remove("default");
}
