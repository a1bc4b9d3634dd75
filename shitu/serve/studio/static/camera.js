// A photo from the device's camera, which browsers lend to https and localhost only.

import { $, h, toast } from "./dom.js";
import { t } from "./words.js";

// Resolves to a JPEG File, or null where there is no camera or none was taken.
export async function photograph() {
  if (!navigator.mediaDevices?.getUserMedia) {
    toast(t("camera.insecure"), { kind: "bad" });
    return null;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { facingMode: { ideal: "environment" }, width: { ideal: 1920 }, height: { ideal: 1080 } },
    });
  } catch (error) {
    toast(t(error.name === "NotAllowedError" ? "camera.refused" : "camera.none"), { kind: "bad" });
    return null;
  }
  try {
    return await shoot(stream);
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

function shoot(stream) {
  return new Promise((resolve) => {
    const video = h("video", { autoplay: true, playsinline: true, ".muted": true, ".srcObject": stream, "aria-label": t("camera") });
    const take = h("button.main", { type: "button", disabled: true }, t("camera.take"));
    video.addEventListener("playing", () => { take.disabled = false; take.focus(); }, { once: true });
    const dialog = h("dialog.camera", { "aria-label": t("camera") }, video,
      h("div.row.end", {}, h("button.quiet", { type: "button", onclick: () => dialog.close() }, t("cancel")), take));
    let file = null;
    take.addEventListener("click", () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => {
        const now = new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-");
        file = new File([blob], `camera-${now}.jpg`, { type: "image/jpeg" });
        dialog.close();
      }, "image/jpeg", 0.92);
    });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(file); });
    document.body.append(dialog);
    dialog.showModal();
    $("video", dialog).play().catch(() => {});
  });
}
