//! How this service presents itself to the allocator.

use meshos_proto::mesos::v1::{
    FrameworkId, FrameworkInfo,
    framework_info::{Capability, capability::Type},
    scheduler::{Call, call},
};

use crate::config::MarathonArgs;

/// The framework's description; `id` is none until the allocator has given one.
pub fn framework_info(args: &MarathonArgs, id: Option<&str>) -> FrameworkInfo {
    with_roles(args, id, vec![args.mesos_role.clone()])
}

/// The same with more roles than the default one.
pub fn with_roles(args: &MarathonArgs, id: Option<&str>, roles: Vec<String>) -> FrameworkInfo {
    let mut capabilities = vec![
        Type::PartitionAware,
        Type::TaskKillingState,
        Type::RegionAware,
        Type::MultiRole,
        Type::ReservationRefinement,
    ];
    if args.enable_features.iter().any(|feature| feature == "gpu_resources") {
        capabilities.push(Type::GpuResources);
    }
    FrameworkInfo {
        user: args.mesos_user.clone().unwrap_or_else(current_user),
        name: args.framework_name.clone(),
        id: id.map(|id| FrameworkId { value: id.to_owned() }),
        failover_timeout: Some(args.failover_timeout_s as f64),
        checkpoint: Some(true),
        roles,
        hostname: args.hostname.clone(),
        webui_url: args.webui_url.clone(),
        capabilities: capabilities.into_iter().map(|kind| Capability { r#type: Some(kind.into()) }).collect(),
        ..Default::default()
    }
}

/// The first call.
pub fn subscribe(args: &MarathonArgs, id: Option<&str>) -> Call {
    let info = framework_info(args, id);
    Call {
        framework_id: info.id.clone(),
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
        ..Default::default()
    }
}

/// The user that this process runs as.
fn current_user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().map_or_else(|| "root".to_owned(), |user| user.name)
}
