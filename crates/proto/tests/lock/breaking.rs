//! Which changes of descriptors break a peer.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    field_descriptor_proto::Label,
};

/// All parts of a set by their full names.
#[derive(Default)]
struct Parts<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    methods: BTreeMap<String, &'a MethodDescriptorProto>,
}

impl<'a> Parts<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut parts = Self::default();
        for file in &set.file {
            let package = file.package();
            file.message_type.iter().for_each(|m| parts.message(package, m));
            file.enum_type.iter().for_each(|e| parts.enumeration(package, e));
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{package}.{}.{}", service.name(), method.name());
                    parts.methods.insert(name, method);
                }
            }
        }
        parts
    }

    fn message(&mut self, outer: &str, message: &'a DescriptorProto) {
        let name = format!("{outer}.{}", message.name());
        message.nested_type.iter().for_each(|m| self.message(&name, m));
        message.enum_type.iter().for_each(|e| self.enumeration(&name, e));
        self.messages.insert(name, message);
    }

    fn enumeration(&mut self, outer: &str, enumeration: &'a EnumDescriptorProto) {
        self.enums.insert(format!("{outer}.{}", enumeration.name()), enumeration);
    }
}

/// One line for each breaking change.
pub(crate) fn breaks(before: &FileDescriptorSet, after: &FileDescriptorSet) -> Vec<String> {
    let (before, after) = (Parts::of(before), Parts::of(after));
    let mut found = Vec::new();
    for (name, old) in &before.messages {
        match after.messages.get(name) {
            Some(new) => message(name, old, new, &mut found),
            None => found.push(format!("{name}: message removed")),
        }
    }
    for (name, old) in &before.enums {
        match after.enums.get(name) {
            Some(new) => enumeration(name, old, new, &mut found),
            None => found.push(format!("{name}: enum removed")),
        }
    }
    for (name, old) in &before.methods {
        match after.methods.get(name) {
            Some(new) => method(name, old, new, &mut found),
            None => found.push(format!("{name}: rpc removed")),
        }
    }
    found
}

fn message(name: &str, old: &DescriptorProto, new: &DescriptorProto, found: &mut Vec<String>) {
    for field in &old.field {
        let full = format!("{name}.{}", field.name());
        // By name, since JSON goes by it, and the number must have stayed.
        match new.field.iter().find(|f| f.name() == field.name()) {
            None => found.push(format!("{full}: field removed or renamed")),
            Some(now) => {
                let oneof = |m: &DescriptorProto, f: &FieldDescriptorProto| {
                    f.oneof_index.map(|i| m.oneof_decl[i as usize].name().to_owned())
                };
                let mut differs = differences(field, now);
                if oneof(old, field) != oneof(new, now) {
                    differs.push("oneof");
                }
                if !differs.is_empty() {
                    found.push(format!("{full}: {} changed or renumbered", differs.join(", ")));
                }
            }
        }
    }
    for field in new.field.iter().filter(|f| f.label() == Label::Required) {
        if !old.field.iter().any(|f| f.name() == field.name()) {
            found.push(format!("{name}.{}: a new field is required", field.name()));
        }
    }
}

fn differences(old: &FieldDescriptorProto, new: &FieldDescriptorProto) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let mut check = |same: bool, what| {
        if !same {
            differs.push(what);
        }
    };
    check(old.number() == new.number(), "number");
    check(old.r#type() == new.r#type() && old.type_name() == new.type_name(), "type");
    check(old.label() == new.label(), "label");
    check(old.proto3_optional() == new.proto3_optional(), "presence");
    check(old.default_value == new.default_value, "default");
    differs
}

fn enumeration(name: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto, found: &mut Vec<String>) {
    for value in &old.value {
        if !new.value.iter().any(|v| v.name() == value.name() && v.number() == value.number()) {
            found.push(format!("{name}.{}: enum value removed or renumbered", value.name()));
        }
    }
}

fn method(name: &str, old: &MethodDescriptorProto, new: &MethodDescriptorProto, found: &mut Vec<String>) {
    if old.input_type() != new.input_type() || old.output_type() != new.output_type() {
        found.push(format!("{name}: rpc takes or gives another message"));
    }
    let streams = |m: &MethodDescriptorProto| (m.client_streaming(), m.server_streaming());
    if streams(old) != streams(new) {
        found.push(format!("{name}: streaming of the rpc changed"));
    }
}
