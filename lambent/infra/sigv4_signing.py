"""Signs requests of ours to AWS's services with Signature Version 4. The other side of `sigv4`; pure, `now` is a
parameter."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lambent.infra.sigv4 import canonical_path, signing_key


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose requests, to which service where."""

    access_key: str
    secret: str = field(repr=False)
    region: str
    service: str

    def sign(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, now: float, query: str = ""
    ) -> dict[str, str]:
        """The headers to send: those given (lower-case names, `host` among them), and what signing adds. `path`,
        `query`: as they are sent; of the query, parameters in order and encoded as signers do."""
        moment = datetime.fromtimestamp(now, UTC)
        date = f"{moment:%Y%m%d}"
        digest = hashlib.sha256(body).hexdigest()
        sent = {**headers, "x-amz-date": f"{moment:%Y%m%dT%H%M%SZ}", "x-amz-content-sha256": digest}
        names = ";".join(sorted(sent))
        # S3 alone takes the path as it is sent; all others encode it once more.
        canonical = path if self.service == "s3" else canonical_path(path.encode()).decode()
        lines = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
        request = f"{method}\n{canonical}\n{query}\n{lines}\n{names}\n{digest}"
        scope = f"{date}/{self.region}/{self.service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{sent['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = signing_key(self.secret, date.encode(), self.region.encode(), self.service.encode())
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return sent
