//! What has been published stays: agents and services of several versions talk to each other, and users'
//! clients are never rebuilt. Compares `proto/` with `proto/lock/descriptors.bin`. An addition passes; once it is
//! to be frozen, or a break is meant, `make proto-lock` takes the present state over.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

mod breaking;

use std::{env, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

use breaking::breaks;

const REFRESH: &str =
    "if the break is meant (nothing that speaks the old form is in use), run `make proto-lock`";

/// The files of ours, and what they import of Google's.
fn ours() -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(meshos_proto::DESCRIPTORS).unwrap();
    set.file
        .retain(|file| ["mesos", "meshos", "google"].contains(&file.package().split('.').next().unwrap()));
    set
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/lock/descriptors.bin")
}

#[test]
fn nothing_that_was_published_is_broken() {
    let now = ours();
    if env::var_os("MESHOS_UPDATE_LOCK").is_some() {
        fs::create_dir_all(path().parent().unwrap()).unwrap();
        fs::write(path(), now.encode_to_vec()).unwrap();
    }
    let locked = fs::read(path()).unwrap_or_else(|e| panic!("{}: {e}; {REFRESH}", path().display()));
    let found = breaks(&FileDescriptorSet::decode(locked.as_slice()).unwrap(), &now);
    assert!(found.is_empty(), "breaking changes in proto/:\n  {}\n{REFRESH}", found.join("\n  "));
}

/// The one complaint that a change of the present descriptors causes.
fn complaint(change: impl FnOnce(&mut FileDescriptorSet)) -> String {
    let before = ours();
    let mut after = before.clone();
    change(&mut after);
    let found = breaks(&before, &after);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn file<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut prost_types::FileDescriptorProto {
    set.file.iter_mut().find(|file| file.name() == name).unwrap()
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut prost_types::DescriptorProto {
    let all = &mut file(set, "mesos/v1/mesos.proto").message_type;
    all.iter_mut().find(|message| message.name() == name).unwrap()
}

fn method(set: &mut FileDescriptorSet) -> &mut Vec<MethodDescriptorProto> {
    &mut file(set, "meshos/allocator/v1/allocator.proto").service[0].method
}

#[test]
fn breaks_are_found() {
    use prost_types::field_descriptor_proto::{Label, Type};
    let field = "mesos.v1.Label.key";
    let of = |change: fn(&mut prost_types::FieldDescriptorProto)| {
        complaint(|set| change(&mut message(set, "Label").field[0]))
    };
    assert!(complaint(|set| drop(message(set, "Label").field.remove(0))).starts_with(field));
    assert!(of(|f| f.number = Some(77)).contains("renumbered"));
    let renamed = complaint(|set| message(set, "Label").field[1].name = Some("other".into()));
    assert_eq!(renamed, "mesos.v1.Label.value: field removed or renamed");
    assert!(of(|f| f.set_type(Type::Bytes)).contains("type"));
    assert!(of(|f| f.set_label(Label::Optional)).contains("label"));
    assert!(of(|f| f.default_value = Some("x".into())).contains("default"));
    let added = |set: &mut FileDescriptorSet| {
        let mut field = message(set, "Label").field[0].clone();
        (field.name, field.number) = (Some("new".into()), Some(77));
        message(set, "Label").field.push(field);
    };
    assert!(complaint(added).contains("required"));
    let enums = |set: &mut FileDescriptorSet| {
        let all = &mut file(set, "mesos/v1/mesos.proto").enum_type;
        all.iter_mut().find(|e| e.name() == "TaskState").unwrap().value.remove(1);
    };
    assert_eq!(complaint(enums), "mesos.v1.TaskState.TASK_STARTING: enum value removed or renumbered");
    let gone = complaint(|set| message(set, "DeviceWhitelist").name = Some("Other".into()));
    assert_eq!(gone, "mesos.v1.DeviceWhitelist: message removed");
    assert!(complaint(|set| drop(method(set).pop())).contains("rpc removed"));
    assert!(complaint(|set| method(set)[1].server_streaming = Some(false)).contains("streaming"));
}

#[test]
fn additions_pass() {
    let before = ours();
    let mut after = before.clone();
    let mut field = message(&mut after, "Labels").field[0].clone();
    (field.name, field.number) = (Some("more".into()), Some(77));
    message(&mut after, "Labels").field.push(field);
    let copy = method(&mut after)[0].clone();
    method(&mut after).push(MethodDescriptorProto { name: Some("More".into()), ..copy });
    assert_eq!(breaks(&before, &after), Vec::<String>::new());
}
