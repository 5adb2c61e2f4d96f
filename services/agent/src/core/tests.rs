use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::{
        Acknowledge, AllocatorMessage, FrameworkMessage, Kill, Launch, LinkAccepted, OperationUpdate,
        ShutdownFramework, StatusUpdate, allocator_message::Body,
    },
    mesos::v1::{
        self as pb, TaskState, executor::Event, framework_info::capability::Type as Capability,
        task_status::Reason,
    },
};

use super::{updates::LAST_RETRY, *};
use crate::{
    checkpoint::{Record, Replay},
    containerizer::{ContainerSpec, Exit, ExitStatus, Limits, Probe, Recovered},
    token::Secret,
};

mod checks;
mod clock;
mod executor_model;
mod executor_recovery;
mod executors;
mod kill;
mod launch;
mod model;
mod nested;
mod operations;
mod pods;
mod recovery;
mod scene;
mod shown;
mod staging;
mod updates;

use scene::*;
