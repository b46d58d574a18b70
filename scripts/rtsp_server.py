#!/usr/bin/python3
"""rtsp_server [--size WxH] [--fps F] [--sound]: a moving test picture by RTSP on loopback, until stdin closes.

For the system's Python, with GStreamer's server from Debian: gir1.2-gst-rtsp-server-1.0 python3-gi, and the plug-ins
gstreamer1.0-plugins-base -good -ugly (-bad for nothing but other codecs). The first line on stdout is the feed's URL,
on a port that the system chose. SIGTERM and Ctrl-C end it as well. H.264 with a key frame each second, and a tone.
"""

from __future__ import annotations

import argparse
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def launch(width: int, height: int, fps: int, sound: bool) -> str:
    """GStreamer's own words for what a client is sent."""
    video = (
        f"videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate={fps}/1 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} bitrate=2000 "
        "! rtph264pay name=pay0 pt=96 config-interval=1"
    )
    tone = "audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8"
    return f"( {video} {tone if sound else ''} )"


def main() -> None:
    """Serve until told to stop."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--size", default="1280x720")
    words.add_argument("--fps", type=int, default=30)
    words.add_argument("--sound", action="store_true")
    asked = words.parse_args()
    width, height = (int(side) for side in asked.size.split("x"))
    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch(width, height, asked.fps, asked.sound))
    factory.set_shared(True)  # encoded once, for all who look on
    server.get_mount_points().add_factory("/feed", factory)
    server.attach(None)
    for name in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, name, loop.quit)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, lambda *_: loop.quit())
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/feed", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
