// All that the component needs of @asyncapi/parser for a document that has been parsed already.
export {
  isAsyncAPIDocument,
  isOldAsyncAPIDocument,
  toAsyncAPIDocument,
} from "@asyncapi/parser/cjs/document.js";
export { SchemaV2 } from "@asyncapi/parser/cjs/models/index.js";
export { unstringify } from "@asyncapi/parser/cjs/stringify.js";

// Never called: the page parses nothing.
export class Parser {
  registerSchemaParser() {}
}
const nothing = () => undefined;
export {
  nothing as AvroSchemaParser,
  nothing as fromURL,
  nothing as OpenAPISchemaParser,
  nothing as ProtoBuffSchemaParser,
};
