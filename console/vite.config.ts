import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `BLIXT_URL=http://127.0.0.1:8480 npm run dev` serves the sources against a running cloud.
const cloud = process.env.BLIXT_URL ?? "http://127.0.0.1:8480";

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: { target: "es2023", chunkSizeWarningLimit: 700 },
  server: {
    proxy: {
      "/api": { target: cloud, ws: true },
      "/d/": { target: cloud },
    },
  },
});
