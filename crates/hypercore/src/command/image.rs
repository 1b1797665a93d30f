//! `hypercore image`: the images kept on the node, and what it is to registries.

mod login;
mod prune;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hypercore_api::{Client, ErrorKind, v1::image_pull_event::Event};
use hypercore_model::{Digest, ImageReference, Timestamp, units::format_size};

use super::targets::each;
use crate::{
    age,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
    pull::PullBars,
    table::Table,
    view::{ImageView, familiar},
};

const EXAMPLES: &str = "\
Examples:
  hypercore image pull nginx:1.27
  hypercore image ls
  hypercore image rm nginx:1.27";

const PULL_EXAMPLES: &str = "\
Examples:
  hypercore image pull nginx:1.27
  hypercore image pull 127.0.0.1:5000/team/web@sha256:<64 digits>";

const LS_EXAMPLES: &str = "\
Examples:
  hypercore image ls
  hypercore image ls -q                only the references";

const RM_EXAMPLES: &str = "\
Examples:
  hypercore image rm nginx:1.27
  hypercore image rm --force nginx:1.27        although a workload uses it
  hypercore image rm $(hypercore image ls -q)";

const IMPORT_EXAMPLES: &str = "\
Examples:
  hypercore image import ./layout                     an OCI layout directory
  hypercore image import web.tar --as web:1           an oci-archive, under another name";

/// Pull, import, list, verify and remove images
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Fetch an image from its registry
    #[command(after_help = PULL_EXAMPLES)]
    Pull {
        /// [REGISTRY/]NAME[:TAG][@DIGEST]
        #[arg(value_name = "IMAGE")]
        reference: ImageReference,
    },
    /// List images
    #[command(after_help = LS_EXAMPLES)]
    Ls,
    /// Remove images
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// [REGISTRY/]NAME[:TAG][@DIGEST]
        #[arg(required = true, value_name = "IMAGE")]
        references: Vec<ImageReference>,
        /// Take away the name of an image that a workload uses; its content stays until the workload is gone
        #[arg(short, long)]
        force: bool,
    },
    /// Read images from an OCI layout directory or archive on the node's disk
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// The directory or the archive
        path: PathBuf,
        /// Keep it under this name instead of the one written in it
        #[arg(long = "as", value_name = "IMAGE")]
        rename: Option<ImageReference>,
    },
    Prune(prune::PruneArgs),
    Verify(verify::VerifyArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
}

/// Does it.
pub(super) async fn run(args: ImageArgs, context: &Context) -> Outcome {
    match args.command {
        ImageCommand::Pull { reference } => pull(&reference, context).await,
        ImageCommand::Ls => list(context).await,
        ImageCommand::Rm { references, force } => remove(&references, force, context).await,
        ImageCommand::Import { path, rename } => import(path, rename, context).await,
        ImageCommand::Prune(args) => prune::run(&args, context).await,
        ImageCommand::Verify(args) => verify::run(&args, context).await,
        ImageCommand::Login(args) => login::log_in(args, context).await,
        ImageCommand::Logout(args) => login::log_out(&args, context).await,
    }
}

async fn pull(reference: &ImageReference, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut bars = PullBars::new(&context.console);
    let mut events = client.image_pull(&reference.to_string()).await?;
    let mut image = None;
    while let Some(event) = events.next().await? {
        match event.event {
            Some(Event::Progress(progress)) => bars.update(&progress),
            Some(Event::Done(done)) => image = Some((done, event.source)),
            None => {}
        }
    }
    bars.finish();
    let (image, source) = image.ok_or_else(|| {
        Failure::new(ErrorKind::Failed, "answer_incomplete", "the agent ended the pull without an image")
    })?;
    if !source.is_empty() && source != reference.registry() {
        context.console.say(&format!("{}: from the mirror {source}", reference.familiar()));
    }
    print_references(&[ImageView::new(&image)], context)
}

async fn list(context: &Context) -> Outcome {
    let images = context.connect().await?.image_list().await?;
    let views: Vec<_> = images.iter().map(ImageView::new).collect();
    if context.console.is_quiet() && context.console.is_for_people() {
        return print_references(&views, context);
    }
    context.console.data(&views, |views| {
        let mut table = Table::new(&["IMAGE", "DIGEST", "SIZE", "CREATED"]);
        for (view, image) in views.iter().zip(&images) {
            let digest =
                view.digest.parse::<Digest>().map_or_else(|_| view.digest.clone(), |digest| digest.short());
            let created = Timestamp::from_unix_ms(image.created_at_ms);
            let age = format!("{} ago", age::since(created));
            table.row([&familiar(&view.reference), &digest, &format_size(view.size_bytes), &age]);
        }
        table
    })
}

async fn remove(references: &[ImageReference], force: bool, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let targets: Vec<_> = references.iter().map(ImageReference::to_string).collect();
    let remove_one = async |client: &Client, target: &str| {
        let freed = client.image_remove(target, force).await?;
        context.console.say(&format!("{}: {} freed", familiar(target), format_size(freed)));
        Ok(target.to_owned())
    };
    each(&context.console, &targets, async |target: &str| remove_one(&client, target).await).await
}

async fn import(path: PathBuf, rename: Option<ImageReference>, context: &Context) -> Outcome {
    let absolute = std::path::absolute(&path).ok();
    let Some(text) = absolute.as_ref().and_then(|path| path.to_str()) else {
        let message = format!("the path {} can't be given to the agent: it is not UTF-8", path.display());
        return Err(Failure::new(ErrorKind::Usage, "path_not_utf8", message));
    };
    let reference = rename.map(|reference| reference.to_string()).unwrap_or_default();
    let images = context.connect().await?.image_import(text, &reference).await?;
    let views: Vec<_> = images.iter().map(ImageView::new).collect();
    print_references(&views, context)
}

/// Each reference on a line of its own, or the whole views for programs.
fn print_references(views: &[ImageView], context: &Context) -> Outcome {
    if !context.console.is_for_people() {
        return context.console.structured(&views);
    }
    for view in views {
        context.console.line(&view.reference)?;
    }
    Ok(Exit::Ok)
}
