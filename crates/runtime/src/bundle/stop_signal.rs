//! The signal by which an image wants to be asked to end (`StopSignal`): `SIGQUIT`, `QUIT`, `3` or `SIGRTMIN+3`.
//! It refuses what is no signal rather than falling back: a wrong signal at stop time would be found too late.

use nix::sys::signal::Signal;
use oci_spec::image::ImageConfiguration;

use super::BundleError;

/// The first real-time signal that programs may use: the C library keeps 32 and 33 for itself (signal(7)).
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// The image's stop signal; SIGTERM if it names none.
pub(super) fn parse(image: &ImageConfiguration) -> Result<i32, BundleError> {
    let text = image.config().as_ref().and_then(|config| config.stop_signal().as_deref()).unwrap_or("");
    if text.is_empty() {
        return Ok(Signal::SIGTERM as i32);
    }
    number(text).ok_or_else(|| BundleError::StopSignal(text.escape_default().to_string()))
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = if let Some(offset) = name.strip_prefix("RTMIN") {
        Some(RTMIN + offset_of(offset, '+')?)
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        Some(RTMAX - offset_of(offset, '-')?)
    } else {
        None
    };
    match real_time {
        Some(number) => (RTMIN..=RTMAX).contains(&number).then_some(number),
        None => format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32),
    }
}

/// `+3` after RTMIN or `-3` after RTMAX; nothing at all is 0.
fn offset_of(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() { Some(0) } else { text.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-14", Some(50)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN-1", None),
            ("SIGNOTHING", None),
            ("0", None),
            ("65", None),
            ("-9", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
