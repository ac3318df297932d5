//! `[tls] ca`: the certificates to trust in addition to the system's.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::reader::Section;
use crate::values::read_limited;

const MAX_CA_BYTES: u64 = 4 << 20;

/// Returns the certificates of `[tls] ca`, a PEM file.
pub fn read(root: &Section) -> Option<Vec<CertificateDer<'static>>> {
    let Some(item) = root.item("tls") else {
        return Some(Vec::new());
    };
    let section = item.section("tls")?;
    let roots = section
        .required("ca", "add ca = \"ca.pem\", or remove [tls]")
        .and_then(|item| {
            let name = item.text()?;
            let problem = match read_limited(&item.path()?, MAX_CA_BYTES) {
                Err(reason) => format!("{name} {reason}"),
                Ok(text) => {
                    let roots: Result<Vec<_>, _> =
                        CertificateDer::pem_slice_iter(text.as_bytes()).collect();
                    match roots {
                        Ok(roots) if !roots.is_empty() => return Some(roots),
                        Ok(_) => format!("{name} contains no certificate"),
                        Err(_) => format!("{name} holds a broken certificate"),
                    }
                }
            };
            item.problem(
                problem,
                "name a PEM file with the certificates to trust in addition to the system's",
            );
            None
        });
    section.finish();
    roots
}
