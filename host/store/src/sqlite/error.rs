//! Translates SQLite's errors into those that callers understand.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::{DatabaseError, StoreError};

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        // SQLite reports ENOSPC as FULL, EDQUOT and EFBIG as a failed write, and a WAL index that cannot grow as SHMSIZE.
        if let Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) =
            error.sqlite_extended_error_code()
        {
            return StoreError::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::corrupt(error.to_string())
            }
            code => {
                let of_one_job = matches!(
                    code,
                    None | Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig)
                );
                StoreError::Database(DatabaseError::new(error, of_one_job))
            }
        }
    }
}
