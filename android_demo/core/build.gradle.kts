import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
    `maven-publish`
}

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
    withSourcesJar()
}

kotlin {
    explicitApi()
    compilerOptions.jvmTarget = JvmTarget.JVM_17
}

dependencies {
    api(libs.coroutines)
    testImplementation("org.jetbrains.kotlin:kotlin-test:${libs.versions.kotlin.get()}")
}

publishing.publications.register<MavenPublication>("release") {
    artifactId = "core"
    from(components["java"])
}

// The tests have their own main, so that they also run where there is a compiler and nothing else.
val coreTests = tasks.register<JavaExec>("coreTests") {
    group = "verification"
    description = "Replays the shared conformance cases."
    classpath = sourceSets.test.get().runtimeClasspath
    mainClass = "ai.edgekit.core.TestMainKt"
    args(rootDir.parentFile.path)
}
tasks.test { enabled = false }
tasks.check { dependsOn(coreTests) }
