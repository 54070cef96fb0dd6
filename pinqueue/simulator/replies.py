"""The envelope of every reply, and what the cloud's error codes say (tuya.md 4 and 5.3)."""

from __future__ import annotations

import uuid
from typing import Final

MESSAGES: Final = {
    500: "system error,please contact the admin",
    1002: "access_token is null",
    1003: "grant type invalid",
    1004: "sign invalid",
    1005: "clientId invalid",
    1010: "token invalid",
    1011: "token invalid",
    1012: "token status is invalid",
    1013: "request time is invalid",
    1100: "param is empty",
    1105: "missing the header",
    1106: "permission deny",
    1108: "uri path invalid",
    1109: "param is illegal ,please check it",
    1110: "concurrent request over limit",
    1111: "system is busy",
    1113: "do not repeat in a short time",
    1199: "your requests are too frequent",
    1400: "token invalid",
    2001: "device is offline",
    2003: "function not support",
    2004: "not support the lock type",
    2303: "number of passwords reached the limit",
    2310: "zigbee lock password can not be found",
    2311: "too many passwords are being set, wait for the gateway",
    2312: "Door lock equipment is not online!",
    2314: "password length incorrect",
    2316: "password name can not repeat!",
    2317: "the gateway is busy updating",
    2318: "effective time or invalid time is before now",
    2321: "wifi lock password can not be found",
    2322: "wifi lock password can not be repeated",
    2323: "record does not exist",
    2324: "status does not allow the operation",
    2328: "operation in progress",
    28841001: "No permissions.",
    28841002: "No permissions. Your subscription to cloud development plan has expired.",
    28841004: "No permissions. Your quota of Trial Edition is used up.",
    28841101: "No permissions. This API is not subscribed.",
    28841105: "No permissions. This project is not authorized to call this API.",
    28841106: "No permissions. This API is not subscribed.",
}


class Refusal(Exception):
    """The cloud answers `success: false`."""

    def __init__(self, code: int, msg: str | None = None) -> None:
        self.code = code
        self.msg = MESSAGES.get(code, "unknown error") if msg is None else msg
        super().__init__(f"{code} {self.msg}")


def succeeded(result: object, now_ms: int) -> dict[str, object]:
    return {"result": result, "success": True, "t": now_ms, "tid": uuid.uuid4().hex}


def refused(refusal: Refusal, now_ms: int) -> dict[str, object]:
    return {
        "code": refusal.code,
        "msg": refusal.msg,
        "success": False,
        "t": now_ms,
        "tid": uuid.uuid4().hex,
    }
