//! Images on their way, and what the task's output tells of it.

use std::time::Duration;

use tokio::time::sleep;

use super::OciContainerizer;
use crate::{
    containerizer::{
        ContainerSpec,
        container::ImageSetup,
        lines::{Lines, TOLD},
    },
    images::Image,
};

/// An image that is here takes less.
const SHORT: Duration = Duration::from_millis(100);

impl OciContainerizer {
    /// Brings an image. Whoever looks into the sandbox meanwhile sees how far it got.
    pub(super) async fn provide(&self, image: &ImageSetup, spec: &ContainerSpec) -> Result<Image, String> {
        let mut provided = self.images.provide(image, &spec.container_id);
        let mut lines: Option<Lines> = None;
        let mut wait = SHORT;
        loop {
            tokio::select! {
                biased;
                provided = &mut provided => return provided,
                () = sleep(wait) => {}
            }
            let Some(text) = self.images.progress(image) else { continue };
            match &mut lines {
                Some(lines) => {
                    lines.add(&format!("Pulling: {text}"));
                    wait = TOLD;
                }
                None => {
                    let lines = lines.insert(self.first_lines(spec).await);
                    lines.add(&format!("Pulling the image {}", image.name));
                }
            }
        }
    }

    /// The sandbox is made before its time; once its user is known it becomes the user's.
    async fn first_lines(&self, spec: &ContainerSpec) -> Lines {
        let user = self.process.user_of(spec).await.ok().flatten();
        // What cannot be made is said when the container is prepared.
        let _ = self.process.make_sandbox(spec, user).await;
        Lines::open(spec)
    }
}
