use std::time::Duration;

use meshos_proto::meshos::agent::v1::{Done, Failed, Listed, SupervisorRequest, SupervisorResponse};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::*;
use crate::supervisor::SOCKET;

/// A supervisor that never answers a start, and whose container takes a while to die. It tells what it was asked.
async fn slow_supervisor(listener: UnixListener, told: mpsc::UnboundedSender<String>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut still_runs = true;
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.unwrap();
        let request = SupervisorRequest::decode(frame.as_slice()).unwrap();
        let (text, body) = match request.body.unwrap() {
            Request::List(_) => (None, Some(Response::Listed(Listed::default()))),
            Request::Spawn(spawn) => (Some(format!("spawn {}", spawn.container_id)), None),
            Request::Signal(signal) => (
                Some(format!("signal {} {}", signal.container_id, signal.signal)),
                Some(Response::Done(Done {})),
            ),
            Request::Forget(forget) if std::mem::take(&mut still_runs) => (
                Some(format!("forget {}", forget.container_id)),
                Some(Response::Failed(Failed { message: "still runs".to_owned() })),
            ),
            Request::Forget(forget) => {
                (Some(format!("forget {}", forget.container_id)), Some(Response::Done(Done {})))
            }
            other => panic!("{other:?}"),
        };
        text.into_iter().for_each(|text| told.send(text).unwrap());
        if let Some(body) = body {
            answer(&mut stream, SupervisorResponse { id: request.id, body: Some(body) }).await;
        }
    }
}

async fn answer(stream: &mut UnixStream, response: SupervisorResponse) {
    let message = response.encode_to_vec();
    stream.write_u32(u32::try_from(message.len()).unwrap()).await.unwrap();
    stream.write_all(&message).await.unwrap();
}

#[tokio::test]
async fn a_launch_without_an_answer_is_killed_and_forgotten_after_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let settings = Settings {
        supervisor_dir: dir.path().to_owned(),
        program: SupervisorProgram::this_program(dir.path()),
        cgroups: CgroupSettings { enabled: false, ..CgroupSettings::all("none") },
        switch_user: false,
        fetcher: crate::fetcher::Settings::below(dir.path()),
    };
    let tasks = Tasks::new();
    let mut containerizer = ProcessContainerizer::with_tasks(&tasks, &settings);
    let (told, mut asked) = mpsc::unbounded_channel();
    tasks.spawn("slow-supervisor", slow_supervisor(listener, told));
    containerizer.client.list().await.unwrap();

    let usual = std::mem::replace(&mut containerizer.client.patience, Duration::from_millis(300));
    let spec = ContainerSpec {
        container_id: "c".to_owned(),
        sandbox: dir.path().to_owned(),
        ..ContainerSpec::default()
    };
    let error = containerizer.launch(&spec).await.unwrap_err();
    assert!(error.to_string().contains("no answer"), "{error}");
    containerizer.client.patience = usual;
    // The second time there is nothing to kill.
    for _ in 0..2 {
        containerizer.cleanup("c").await.unwrap();
    }
    let asked: Vec<_> = std::iter::from_fn(|| asked.try_recv().ok()).collect();
    assert_eq!(asked, ["spawn c", "signal c 9", "forget c", "signal c 9", "forget c", "forget c"]);
    drop(containerizer);
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}
