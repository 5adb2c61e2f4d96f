//! CREATE_DISK and DESTROY_DISK, which only a resource provider can carry out: the rules are upstream's, and what is
//! within them is refused in the end, since agents have no resource providers.

use meshos_proto::mesos::v1::{
    self as pb,
    offer::operation::{CreateDisk, DestroyDisk},
    resource::disk_info::{Source, source::Type},
};
use meshos_types::Resources;

use super::rules::Conversion;

pub(super) fn create(create: &CreateDisk) -> Result<Conversion, String> {
    let source = provided(&create.source)?;
    if source.map(Source::r#type) != Some(Type::Raw) {
        return Err("'source' is not a RAW disk resource".to_owned());
    }
    if !matches!(create.target_type(), Type::Mount | Type::Block) {
        return Err("'target_type' is neither MOUNT or BLOCK".to_owned());
    }
    let has_profile = source.is_some_and(|source| source.profile.is_some());
    match (has_profile, create.target_profile.is_some()) {
        (true, true) => {
            Err("'target_profile' must not be set when 'source' already has a profile".to_owned())
        }
        (false, false) => {
            Err("'target_profile' must be set when 'source' does not have a profile".to_owned())
        }
        _ => Err(no_provider(&create.source)),
    }
}

pub(super) fn destroy(destroy: &DestroyDisk) -> Result<Conversion, String> {
    let source = provided(&destroy.source)?;
    match source.map(Source::r#type) {
        Some(Type::Mount | Type::Block) => {}
        Some(Type::Raw) if source.is_some_and(|source| source.id.is_some()) => {}
        Some(Type::Raw) => return Err("'source' is a RAW disk resource without an ID".to_owned()),
        _ => return Err("'source' is neither a MOUNT, BLOCK or RAW disk resource".to_owned()),
    }
    let disk = destroy.source.disk.as_ref();
    if disk.is_some_and(|disk| disk.persistence.is_some()) {
        return Err(
            "a disk resource containing a persistent volume cannot be destroyed directly; destroy the \
                    persistent volume first"
                .to_owned(),
        );
    }
    Err(no_provider(&destroy.source))
}

/// The source of a disk that is a resource provider's.
fn provided(resource: &pb::Resource) -> Result<Option<&Source>, String> {
    Resources::from_proto(std::slice::from_ref(resource))
        .map_err(|fault| format!("Invalid resource: {fault}"))?;
    if resource.provider_id.is_none() {
        return Err("'source' is not managed by a resource provider".to_owned());
    }
    Ok(resource.disk.as_ref().and_then(|disk| disk.source.as_ref()))
}

fn no_provider(resource: &pb::Resource) -> String {
    let provider = resource.provider_id.as_ref().map_or("", |id| id.value.as_str());
    format!("the agent has no resource provider '{provider}'")
}
