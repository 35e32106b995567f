/** The build of bottleneck without Redis, which Octokit's plugins use. It has no types of its own. */
declare module "bottleneck/light.js" {
  import Bottleneck from "bottleneck"
  export default Bottleneck
}
