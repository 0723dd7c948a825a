// Uses the generated client as a program would: scrape, list, download, and an error by its code.
import { client } from "./client/client.gen";
import { createJob, download, getJob, listPosts, scrape } from "./client/sdk.gen";

declare const process: { argv: string[] };

const [, , baseUrl, key] = process.argv;
client.setConfig({ baseUrl, headers: { "X-API-Key": key } });

async function main() {
  const post = await scrape({ body: { url: "https://www.instagram.com/reel/reel-client/" }, throwOnError: true });
  const listing = await listPosts({ query: { limit: 1 }, throwOnError: true });
  const file = await download({ path: { shortcode: post.data.shortcode }, parseAs: "blob", throwOnError: true });
  const job = await createJob({ body: { urls: ["https://example.com/"] }, throwOnError: true });
  const again = await getJob({ path: { id: job.data.id }, throwOnError: true });
  const failed = await scrape({ body: { url: "https://example.com/" } });

  console.log(JSON.stringify({
    video: post.data.video,
    listed: listing.data.posts.length,
    bytes: (file.data as Blob).size,
    state: again.data.posts[0]?.code,
    code: failed.error && "code" in failed.error ? failed.error.code : null,
  }));
}

main();
