//! `hypercore cluster spawn`: `run -d` with the flags of the first Hypercore.

use clap::Args;
use hypercore_api::ErrorKind;
use hypercore_model::{CpuMillis, ImageReference, MemoryBytes, PortMapping, WorkloadName, WorkloadSpec};

use crate::{
    command::run::{self, environment},
    context::Context,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  hypercore cluster spawn --image-ref nginx --cpu 1 --mem 512 --ports 8081:80 --env MODE=test
  hypercore cluster spawn --image-ref busybox --name sleeper -- sleep 1000";

/// A bare number of `--mem` counts these.
const MIB: u64 = 1 << 20;

/// Run an image in the background and print its id: `hypercore run -d`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SpawnArgs {
    /// [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(long, value_name = "IMAGE")]
    image_ref: ImageReference,
    /// CPUs it may use at most, such as 1 or 0.5
    #[arg(long, value_name = "CPUS")]
    cpu: Option<CpuMillis>,
    /// Memory it may use at most: MiB, or with a unit such as 1GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    mem: Option<MemoryBytes>,
    /// Publish ports: HOST:PORT, or PORT for a free host port
    #[arg(long, value_name = "[HOST:]PORT", value_delimiter = ',')]
    ports: Vec<PortMapping>,
    /// Set an environment variable; KEY alone takes ours
    #[arg(long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// A name, unique while the workload exists
    #[arg(long, value_name = "NAME")]
    name: Option<WorkloadName>,
    /// What to run instead of the image's own arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn parse_memory(text: &str) -> Result<MemoryBytes, hypercore_model::units::UnitError> {
    match text.parse::<u64>() {
        Ok(mib) => MemoryBytes::new(mib.saturating_mul(MIB)),
        Err(_) => text.parse(),
    }
}

/// Runs it.
pub(super) async fn run(args: SpawnArgs, context: &Context) -> Outcome {
    run::start(spec(args)?, true, context).await
}

fn spec(args: SpawnArgs) -> Result<WorkloadSpec, Failure> {
    let mut mistakes = Vec::new();
    let mut spec = WorkloadSpec::of_image(args.image_ref);
    spec.env = environment::read(&[], &args.env, |key| std::env::var(key).ok(), &mut mistakes);
    (spec.cpu, spec.memory, spec.ports) = (args.cpu, args.mem, args.ports);
    (spec.name, spec.command) = (args.name, args.command);
    if let Err(errors) = spec.validate() {
        mistakes.extend(errors.iter().map(ToString::to_string));
    }
    if mistakes.is_empty() {
        return Ok(spec);
    }
    let hint = "`hypercore cluster spawn --help` explains every flag";
    Err(Failure::new(ErrorKind::Usage, "invalid_request", mistakes.join("; ")).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        spawn: SpawnArgs,
    }

    fn spec_of(line: &str) -> Result<WorkloadSpec, Failure> {
        spec(Alone::try_parse_from(line.split_whitespace()).unwrap().spawn)
    }

    #[test]
    fn memory_without_a_unit_is_mib() {
        let spec =
            spec_of("spawn --image-ref web:1 --cpu 1 --mem 512 --ports 8080:80,53:53/udp --env A=b").unwrap();
        assert_eq!((spec.cpu.unwrap().millis(), spec.memory.unwrap().bytes()), (1000, 512 * MIB));
        assert_eq!((spec.ports.len(), spec.env["A"].as_str()), (2, "b"));
        assert_eq!(parse_memory("1GiB").unwrap().bytes(), 1024 * MIB);
        assert!(parse_memory("0").is_err() && parse_memory("much").is_err());
    }

    #[test]
    fn mistakes_are_told_together() {
        let failure = spec_of("spawn --image-ref web:1 --ports 80:80,80:81 --env =x").unwrap_err();
        assert!(failure.error.message.contains("host port 80") && failure.error.message.contains("`=x`"));
    }
}
