//! Names that metrics have whatever happens.

use meshos_proto::mesos::v1::{offer::operation, scheduler::call};

/// The message of the first API that counts as each call.
pub(super) const MESSAGES: [(call::Type, &str); 12] = [
    (call::Type::Accept, "launch_tasks"),
    (call::Type::Decline, "decline_offers"),
    (call::Type::Revive, "revive_offers"),
    (call::Type::Suppress, "suppress_offers"),
    (call::Type::Kill, "kill_task"),
    (call::Type::Acknowledge, "status_update_acknowledgement"),
    (call::Type::AcknowledgeOperationStatus, "operation_status_update_acknowledgement"),
    (call::Type::Reconcile, "reconcile_tasks"),
    (call::Type::ReconcileOperations, "reconcile_operations"),
    (call::Type::Message, "framework_to_executor"),
    (call::Type::Request, "resource_request"),
    (call::Type::Teardown, "unregister_framework"),
];

/// Operations that change reservations and volumes.
pub(super) const OPERATIONS: [operation::Type; 8] = [
    operation::Type::Reserve,
    operation::Type::Unreserve,
    operation::Type::Create,
    operation::Type::Destroy,
    operation::Type::GrowVolume,
    operation::Type::ShrinkVolume,
    operation::Type::CreateDisk,
    operation::Type::DestroyDisk,
];

/// Counters that are shown even before they count. Those that can only be nothing here, since there is no such
/// message or no such queue, are among them: dashboards ask for them.
pub(super) const ALWAYS: [&str; 36] = [
    "master/dropped_messages",
    "master/event_queue_dispatches",
    "master/event_queue_http_requests",
    "master/invalid_executor_to_framework_messages",
    "master/invalid_framework_to_executor_messages",
    "master/invalid_operation_status_update_acknowledgements",
    "master/invalid_operation_status_updates",
    "master/invalid_status_update_acknowledgements",
    "master/invalid_status_updates",
    "master/messages_authenticate",
    "master/messages_deactivate_framework",
    "master/messages_executor_to_framework",
    "master/messages_exited_executor",
    "master/messages_operation_status_update",
    "master/messages_register_framework",
    "master/messages_register_slave",
    "master/messages_reregister_framework",
    "master/messages_reregister_slave",
    "master/messages_status_update",
    "master/messages_unregister_slave",
    "master/messages_update_slave",
    "master/recovery_slave_removals",
    "master/slave_registrations",
    "master/slave_removals",
    "master/slave_removals/reason_registered",
    "master/slave_removals/reason_unhealthy",
    "master/slave_removals/reason_unregistered",
    "master/slave_reregistrations",
    "master/slave_unreachable_canceled",
    "master/slave_unreachable_completed",
    "master/slave_unreachable_scheduled",
    "master/valid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/valid_operation_status_update_acknowledgements",
    "master/valid_operation_status_updates",
    "allocator/mesos/allocation_runs",
];

/// The same of pairs that differ in the end of their names.
pub(super) const ALWAYS_TOO: [&str; 7] = [
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/valid_status_update_acknowledgements",
    "master/valid_status_updates",
    "allocator/event_queue_dispatches",
    "allocator/mesos/event_queue_dispatches",
];
