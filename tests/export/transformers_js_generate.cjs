// Greedy tokens of a standard-layout bundle in transformers.js: node FILE BUNDLE_FOLDER IDS_JSON NEW_TOKENS
const path = require("node:path");
const { AutoModelForCausalLM, Tensor, env } = require("@huggingface/transformers");

async function main() {
  const [folder, idsJson, newTokens] = process.argv.slice(2);
  env.allowRemoteModels = false;
  env.localModelPath = path.dirname(folder) + "/";
  const options = { subfolder: "", dtype: "fp32", device: "cpu" }; // the file is called model.onnx, in no subfolder
  const model = await AutoModelForCausalLM.from_pretrained(path.basename(folder), options);
  const ids = BigInt64Array.from(JSON.parse(idsJson), BigInt);
  const shape = [1, ids.length];
  const output = await model.generate({
    input_ids: new Tensor("int64", ids, shape),
    attention_mask: new Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
    max_new_tokens: Number(newTokens),
    do_sample: false,
  });
  console.log(JSON.stringify(output.tolist()[0].slice(ids.length).map(Number)));
}

main();
