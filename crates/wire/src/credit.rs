//! Credit of one direction of one stream: how many bytes of data may still be sent before the receiver grants more.
//! The sender counts what it may send, the receiver counts the same to catch a sender that doesn't.

/// Most credit a stream may have outstanding, in bytes: what a receiver must be ready to hold.
pub const CREDIT_MAX: u32 = 1024 * 1024;

/// Why a change of credit is refused. The peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// More was granted than may be outstanding.
    #[error(
        "{granted} bytes of credit on top of {available} are too many: at most {CREDIT_MAX} may be outstanding"
    )]
    TooMuch {
        /// What was there, in bytes.
        available: u32,
        /// What was to be added, in bytes.
        granted: u32,
    },
    /// More was sent than granted.
    #[error("{len} bytes were sent with a credit of {available}")]
    Exceeded {
        /// What was there, in bytes.
        available: u32,
        /// What was sent, in bytes.
        len: usize,
    },
}

/// Bytes that may still be sent. Starts at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit(u32);

impl Credit {
    /// What may be sent now, in bytes.
    #[must_use]
    pub const fn available(self) -> usize {
        self.0 as usize
    }

    /// Adds `bytes`, as a [`crate::message::Window`] says.
    ///
    /// # Errors
    /// [`CreditError::TooMuch`]; the credit stays as it was.
    pub fn grant(&mut self, bytes: u32) -> Result<(), CreditError> {
        let sum = self.0.checked_add(bytes).filter(|sum| *sum <= CREDIT_MAX);
        self.0 = sum.ok_or(CreditError::TooMuch { available: self.0, granted: bytes })?;
        Ok(())
    }

    /// Takes `len` bytes away, because they were sent or came.
    ///
    /// # Errors
    /// [`CreditError::Exceeded`]; the credit stays as it was.
    pub fn spend(&mut self, len: usize) -> Result<(), CreditError> {
        let rest = u32::try_from(len).ok().and_then(|len| self.0.checked_sub(len));
        self.0 = rest.ok_or(CreditError::Exceeded { available: self.0, len })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_granted_cannot_be_spent() {
        let mut credit = Credit::default();
        assert_eq!(credit.spend(1), Err(CreditError::Exceeded { available: 0, len: 1 }));
        credit.grant(10).unwrap();
        credit.spend(4).unwrap();
        assert_eq!(credit.available(), 6);
        assert_eq!(credit.spend(usize::MAX), Err(CreditError::Exceeded { available: 6, len: usize::MAX }));
        assert_eq!(
            credit.grant(CREDIT_MAX - 5),
            Err(CreditError::TooMuch { available: 6, granted: CREDIT_MAX - 5 })
        );
        credit.grant(CREDIT_MAX - 6).unwrap();
        assert!(credit.grant(u32::MAX).is_err());
        assert_eq!(credit.available(), CREDIT_MAX as usize);
    }
}
